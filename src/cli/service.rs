//! What a command does itself where no service runs.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::System;
use crate::config::{Config, Routes};
use crate::context::Context;
use crate::gateway::load_rules;
use crate::intake::Intake;
use crate::operator::{Operator, Reply, Request, perform};
use crate::spool::Spool;
use crate::watch::Lookout;

/// Performs `request` on the spool of a service that does not run. What it keeps waits for the service.
pub(super) async fn offline(config: &Config, request: &Request, content: Bytes) -> Result<Reply, String> {
    let rules = load_rules(config).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.join("\n\n")
    })?;
    let clock = Arc::new(System);
    let spool = Spool::open(&config.spool, clock.clone()).map_err(|error| error.to_string())?;
    let context = Context::new(spool, clock, Routes::new(&config.teams), Arc::new(rules), fastrand::u16(..));
    let lookout = Lookout::load(config, context.clone()).await.map_err(|error| error.to_string())?;
    let intake = Arc::new(Intake::new(context.clone(), Arc::new(lookout)));
    let reply = perform(&intake, request, content, &Operator::of_process()).await.reply(&context).await;
    context.spool.close().await;
    Ok(reply)
}
