//! What was answered survives the death of the process.
