//! Checks the connection to SIGNL4 without a page: the name, the connection, and each team's secret. A close
//! never pages (<https://docs.signl4.com/integrations/webhook/webhook.html>, `X-S4-Status`), so it posts a close for
//! an alert that does not exist, and the answer shows whether the secret is right.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::target::{Target, endpoint_of};
use super::webhook::{Answer, Connection, Endpoint, Net, Proxy, SetupError, Webhook};
use crate::clock::System;

/// The longest wait for a name or a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a probe found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// This works.
    Proven(String),
    /// This does not, and what is at fault.
    Failed(Fault, String),
    /// It cannot be known.
    Unclear(String),
}

/// What is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The time: the account is throttled.
    Time,
    /// The way: no name, no connection, no TLS, no answer.
    Way,
    /// What was configured: the URL or the secret.
    Config,
}

/// Tries the way to the webhook at `base` as far as it can be tried without a secret: its name, or its
/// proxy's, and a connection.
pub async fn probe_way(connection: &Connection, base: &str) -> Vec<Finding> {
    let (what, url) = match &connection.proxy {
        Proxy::Url(url) => ("the proxy", url.expose().trim().to_owned()),
        Proxy::Environment if environment_has_a_proxy() => {
            return vec![Finding::Unclear(
                "the environment names a proxy: the way is tried as a whole, with the secrets".to_owned(),
            )];
        }
        Proxy::Environment | Proxy::Off => ("SIGNL4", base.to_owned()),
    };
    let parsed = Url::parse(&url).ok();
    let Some((host, port)) =
        parsed.as_ref().and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)))
    else {
        return vec![Finding::Failed(Fault::Config, format!("the address of {what} names no host"))];
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let mut findings = Vec::new();
    let looked_up = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host.as_str(), port))).await;
    let addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let found = format!("the name {host} of {what} cannot be looked up: {error}");
            return vec![Finding::Failed(Fault::Way, found)];
        }
        Err(_) => {
            let found = format!("the name {host} of {what} is not looked up within {CONNECT_TIMEOUT:?}");
            return vec![Finding::Failed(Fault::Way, found)];
        }
    };
    let Some(first) = addresses.first() else {
        return vec![Finding::Failed(Fault::Way, format!("the name {host} of {what} has no address"))];
    };
    let more = match addresses.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    // An address needs no name.
    if host.parse::<IpAddr>().is_err() {
        findings.push(Finding::Proven(format!("the name of {what}: {host} is {}{more}", first.ip())));
    }
    let start = Instant::now();
    findings.push(match timeout(CONNECT_TIMEOUT, TcpStream::connect(&*addresses)).await {
        Ok(Ok(stream)) => {
            let peer = stream.peer_addr().map_or_else(|_| host.clone(), |peer| peer.to_string());
            Finding::Proven(format!("a connection to {peer} in {} ms", start.elapsed().as_millis()))
        }
        Ok(Err(error)) => Finding::Failed(Fault::Way, format!("no connection to {host}:{port}: {error}")),
        Err(_) => {
            Finding::Failed(Fault::Way, format!("no connection to {host}:{port} within {CONNECT_TIMEOUT:?}"))
        }
    });
    findings
}

/// Whether reqwest may find a proxy in the environment; `no_proxy` may still take the way past it.
fn environment_has_a_proxy() -> bool {
    const NAMES: [&str; 6] =
        ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    NAMES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Posts a close of an alert that never was to `target`, as delivery does where it has nothing else to try.
///
/// # Errors
/// If no client can be made for `connection`.
pub async fn probe(
    connection: &Connection,
    timeout: Duration,
    target: Target,
) -> Result<Finding, SetupError> {
    let tls = Endpoint::is_tls(&target.url);
    let net = Net::new(connection, timeout, tls)?;
    let webhook = Webhook::new(Arc::new(net), connection.event_id, timeout, Arc::new(System));
    let endpoint = match endpoint_of(target).await {
        Ok(endpoint) => endpoint,
        Err(problem) => return Ok(Finding::Failed(Fault::Config, problem)),
    };
    let over = if tls { "over TLS" } else { "without TLS" };
    Ok(match webhook.ask(&endpoint).await {
        Answer::Accepted { .. } => Finding::Proven(format!(
            "the secret: SIGNL4 took, {over}, a close for an alert that does not exist, which never pages"
        )),
        Answer::Foreign { reason } => {
            Finding::Failed(Fault::Way, format!("another answers than SIGNL4: {reason}"))
        }
        Answer::Unauthorised { reason } => {
            Finding::Failed(Fault::Config, format!("the secret or the URL is refused: {reason}"))
        }
        Answer::Throttled { until, reason, .. } => {
            let found = format!(
                "the account is throttled until {until:.0}, which says nothing of the secret: {reason}"
            );
            Finding::Failed(Fault::Time, found)
        }
        Answer::NoSecret { reason } => Finding::Failed(Fault::Config, reason),
        Answer::Unavailable { reason, .. } => Finding::Failed(Fault::Way, format!("no answer: {reason}")),
        Answer::Refused { reason } => Finding::Unclear(format!(
            "SIGNL4 answers, {over}, and does not take a close without an alert: whether the secret is right it \
             does not say: {reason}"
        )),
    })
}
