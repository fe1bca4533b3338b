//! Posts what waits in the spool until SIGNL4 has it. The one owner of retry.
//!
//! Promised: every event that the spool has queued for a configured team is posted until it is taken, is
//! refused for what it holds, or is given up for its age; each end is recorded in the spool. Events of one
//! external id leave in the order of acceptance, also across a crash, because the end of one is durable
//! before the next is posted. A post whose answer was lost is made again: at least once, not exactly once.
//!
//! No account posts more than SIGNL4 lets it, also across a crash: [`budget`] counts, [`ledger`] notes in the
//! spool before anything leaves, [`scheduler`] decides what goes when.

mod backoff;
mod budget;
mod config;
mod dispatch;
mod handle;
mod ledger;
mod multipart;
mod ping;
mod plan;
mod probe;
mod rank;
mod scheduler;
mod status;
mod storage;
mod target;
mod webhook;
mod window;

pub use config::{Config, DEFAULT_ACCOUNT};
pub use handle::Delivery;
pub use ping::Pinger;
pub use plan::Plan;
pub use probe::{Fault, Finding, probe, probe_way};
pub use status::{Starved, State, Status};
pub use storage::{Storage, StorageError};
pub use target::{SecretSource, Target};
pub use webhook::{
    Carried, Connection, EventId, Lost, Net, Proxy, Reached, Reply, Request, SetupError, Transport, Webhook,
    refuse_url, verify,
};
