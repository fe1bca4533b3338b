//! How urgent an event is, as a number.

/// What goes first among events that could all go: the smaller, as [`crate::spool::rank`] has it.
pub(super) type Rank = u8;
