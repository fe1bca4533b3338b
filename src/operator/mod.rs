//! What an operator, or a program on this machine, has the gateway do: hand in a mail or an event, look into the queue
//! and change it, mute.
//!
//! A request is [performed](perform()) in one place: by the service behind its control [socket](server), and by the
//! command itself on the spool of a service that does not run. Every change is logged with who made it.

pub mod client;
mod guests;
mod perform;
mod protocol;
pub mod server;

pub use perform::{Performed, perform};
pub use protocol::{CONTENT_LIMIT, Operator, Reply, Request, TeamStatus};
