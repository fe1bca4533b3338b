//! What is opened, what is refused, and that nothing is changed by a refusal.
