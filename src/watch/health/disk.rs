//! Watches whether the disk answers. While a write hangs, senders get no reply; the log and the status tell it.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info};

use crate::spool::Spool;
use crate::time::local;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// That the disk has not answered since `since`, for an operator.
pub fn told(since: Timestamp) -> String {
    format!("a write to the spool has not returned since {}: the disk hangs, and senders wait", local(since))
}

/// Tells once when a write does not come back, and when it has.
pub async fn run(spool: Spool) {
    let mut next = tokio::time::interval(LOOK);
    let mut known: Option<Timestamp> = None;
    loop {
        next.tick().await;
        match (known, spool.stalled()) {
            (None, Some(since)) => {
                error!(%since, "{}", told(since));
                known = Some(since);
            }
            (Some(since), None) => {
                info!(%since, "the write has come back: the disk answers again");
                known = None;
            }
            _ => {}
        }
    }
}
