//! Watches over what no single mail shows: what is muted and when that ends, which mail is missing, storms, that events
//! get to SIGNL4, and that the gateway itself works. Each part takes the [`Context`](crate::context::Context) and knows
//! no stage of the pipeline but the spool and delivery.

pub mod expect;
pub mod health;
pub mod lookout;
pub mod mute;
pub mod notices;
mod own;
pub mod storm;
mod systemd;

pub use lookout::Lookout;
pub use systemd::notify;
