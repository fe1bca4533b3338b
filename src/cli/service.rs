//! The way to a running service, or to the spool of one that does not run.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::clock::System;
use crate::config::{Config, Routes};
use crate::context::Context;
use crate::gateway::control::{Reply, Request};
use crate::gateway::{Intake, load_rules};
use crate::spool::Spool;
use crate::watch::Lookout;

/// What became of a request.
pub(super) enum Way {
    /// The service answered.
    Answered(Reply),
    /// A service is there and did not answer as it should: whether it took the request is not known.
    Broken(String),
    /// No service listens.
    NoService,
}

/// Asks the running service.
pub(super) async fn ask(config: &Config, request: &Request, content: &[u8], patience: Duration) -> Way {
    let stream = match UnixStream::connect(&config.control.socket).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Way::NoService;
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Way::Broken(format!(
                "{}: {error}: only root, the service's own user and those whom `[control] mode` and `group` let in may \
                 connect",
                config.control.socket.display()
            ));
        }
        Err(error) => return Way::Broken(format!("{}: {error}", config.control.socket.display())),
    };
    match tokio::time::timeout(patience, converse(stream, request, content)).await {
        Ok(Ok(reply)) => Way::Answered(reply),
        Ok(Err(error)) => Way::Broken(format!("the service went away before it answered: {error}")),
        Err(_) => Way::Broken(format!("the service did not answer within {} s", patience.as_secs())),
    }
}

async fn converse(stream: UnixStream, request: &Request, content: &[u8]) -> io::Result<Reply> {
    let mut stream = BufReader::new(stream);
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line).await?;
    stream.get_mut().write_all(content).await?;
    let mut reply = String::new();
    stream.read_line(&mut reply).await?;
    Ok(serde_json::from_str(&reply)?)
}

/// An intake over the spool of a service that does not run. What it keeps waits for the service.
pub(super) async fn offline(config: &Config) -> Result<Intake, String> {
    let rules = load_rules(config).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.join("\n\n")
    })?;
    let clock = Arc::new(System);
    let spool = Spool::open(&config.spool, clock.clone()).map_err(|error| error.to_string())?;
    let context = Context::new(spool, clock, Routes::new(&config.teams), Arc::new(rules), fastrand::u16(..));
    let lookout = Lookout::load(config, context.clone()).await.map_err(|error| error.to_string())?;
    Ok(Intake::new(context, Arc::new(lookout)))
}
