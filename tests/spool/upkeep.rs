//! The spool stays small: its log, its file, and what it keeps.
