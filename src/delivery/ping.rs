//! Requests an address at intervals, to say that all is well. The monitor there pages when the requests stop.
//!
//! The address is a credential, as SIGNL4's heartbeat address is
//! (<https://docs.signl4.com/integrations/heartbeat-monitoring/heartbeat-monitoring.html>): no error shows it.

use std::time::Duration;

use reqwest::{Client, Url};

use crate::secret::Secret;

use super::webhook::{Connection, SetupError, causes, client};

/// Longest wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Pings an address over the connection that the webhook is reached by.
#[derive(Clone)]
pub struct Pinger {
    client: Client,
    url: Url,
}

impl Pinger {
    /// A pinger of `url` over `connection`.
    ///
    /// # Errors
    /// It is no address, or no client can be made.
    pub fn new(connection: &Connection, url: &Secret) -> Result<Self, SetupError> {
        let url = Url::parse(url.expose())
            .map_err(|error| SetupError::new(format!("the heartbeat's address is wrong: {error}")))?;
        let tls = url.scheme() != "http";
        Ok(Self { client: client(connection, TIMEOUT, tls)?, url })
    }

    /// Asks for the address once.
    ///
    /// # Errors
    /// There was no answer, or none that says that it was taken.
    pub async fn ping(&self) -> Result<(), String> {
        let answer = self.client.get(self.url.clone()).send().await;
        match answer.map_err(|error| self.failure(error))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("answered {status}")),
        }
    }

    fn failure(&self, error: reqwest::Error) -> String {
        match error.is_timeout() {
            true => format!("no answer within {TIMEOUT:?}"),
            false => Secret::new(self.url.as_str()).redact(&causes(error)),
        }
    }
}
