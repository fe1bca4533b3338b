//! The vital signs: whether accept, spool and delivery each answer. The heartbeat and systemd's watchdog go by them.

pub mod disk;
pub mod heartbeat;
pub mod watchdog;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::context::Context;
use crate::delivery::Status;
use crate::smtp::{ListenerConfig, TlsMode};
use crate::spool::Memo;

/// How long each part may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where our own client comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    address: Place,
    /// Whether it must be greeted there with 220. Where only others are let in, or TLS comes first, any answer shows
    /// that somebody opens.
    greets: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl LocalEndpoint {
    /// The first of these sockets, each with its listener and its address in words, that greets a plain client of
    /// this machine; or else the first.
    pub fn of<'a>(sockets: impl IntoIterator<Item = (&'a ListenerConfig, String)>) -> Option<Self> {
        let endpoints: Vec<Self> = sockets
            .into_iter()
            .filter_map(|(listener, name)| {
                let (address, own) = match name.strip_prefix("unix:") {
                    Some(path) => (Place::Unix(path.into()), None),
                    None => {
                        let address = local(name.parse().ok()?);
                        (Place::Tcp(address), Some(address.ip()))
                    }
                };
                let among = |networks: &[crate::network::Network]| {
                    own.is_some_and(|own| networks.iter().any(|network| network.contains(own)))
                };
                let let_in = own.is_none() || listener.allow.as_deref().is_none_or(among);
                let greets = listener.tls != TlsMode::Implicit && let_in && !among(&listener.proxies);
                Some(Self { address, greets })
            })
            .collect();
        endpoints.iter().find(|endpoint| endpoint.greets).or(endpoints.first()).cloned()
    }

    /// Comes in as a client would.
    async fn try_it(&self) -> Result<(), Fault> {
        let answer = async {
            match &self.address {
                Place::Tcp(address) => answer(TcpStream::connect(address).await?).await,
                Place::Unix(path) => answer(UnixStream::connect(path).await?).await,
            }
        };
        let fault = |problem, silent| Err(Fault { part: "accept", problem, silent });
        match timeout(PATIENCE, answer).await {
            Ok(Ok(greeting)) if !self.greets || greeting.starts_with("220") => Ok(()),
            Ok(Ok(greeting)) => fault(format!("a client is answered {:?}", greeting.trim_end()), false),
            Ok(Err(error)) => fault(format!("a client cannot connect: {error}"), true),
            Err(_) => fault(format!("a client is not answered within {PATIENCE:?}"), true),
        }
    }
}

/// What is said first to a client that says only goodbye.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    let mut line = [0; 512];
    // With implicit TLS the client speaks first, so no greeting comes.
    let first = timeout(Duration::from_secs(2), stream.read(&mut line)).await;
    stream.write_all(b"QUIT\r\n").await?;
    let read = match first {
        Ok(read) => read?,
        Err(_) => stream.read(&mut line).await?,
    };
    Ok(String::from_utf8_lossy(&line[..read]).into_owned())
}

/// The address at which this machine reaches what listens on `address`.
fn local(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// A part that does not work, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `accept`, `spool` or `delivery`.
    pub part: &'static str,
    /// In words for an operator.
    pub problem: String,
    /// Whether it did not answer at all in the time that it has: a restart may help then.
    pub silent: bool,
}

/// What is looked at.
#[derive(Clone)]
pub struct Vitals {
    endpoint: Option<LocalEndpoint>,
    pub(super) context: Context,
}

impl Vitals {
    /// Those of the gateway of `context`, whose listener is reached by `endpoint`.
    pub fn new(endpoint: Option<LocalEndpoint>, context: Context) -> Self {
        Self { endpoint, context }
    }

    /// Comes in as a client.
    ///
    /// # Errors
    /// The listener does not greet.
    pub async fn accept(&self) -> Result<(), Fault> {
        match &self.endpoint {
            Some(endpoint) => endpoint.try_it().await,
            None => Err(Fault { part: "accept", problem: "nothing listens".to_owned(), silent: true }),
        }
    }

    /// Has a small write put on disk.
    ///
    /// # Errors
    /// It is not.
    pub async fn spool(&self) -> Result<(), Fault> {
        let memo = Memo { kind: "heartbeat", name: String::new(), value: Some(true.into()) };
        let fault = |problem, silent| Fault { part: "spool", problem, silent };
        match timeout(PATIENCE, self.context.spool.remember(vec![memo])).await {
            Ok(written) => written.map_err(|error| fault(error.to_string(), false)),
            Err(_) => Err(fault(format!("a write is not on disk within {PATIENCE:?}"), true)),
        }
    }

    /// Asks delivery how it stands with the teams.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn delivery(&self) -> Result<Vec<Status>, Fault> {
        let silent = |problem| Fault { part: "delivery", problem, silent: true };
        let Some(delivery) = &self.context.delivery else { return Err(silent("it has stopped".to_owned())) };
        match timeout(PATIENCE, delivery.status()).await {
            Ok(found) if found.is_empty() => Err(silent("it has stopped".to_owned())),
            Ok(found) => Ok(found),
            Err(_) => Err(silent(format!("it does not answer within {PATIENCE:?}"))),
        }
    }

    /// Whether each part answers, be it with an error: a full disk is no reason for a restart.
    ///
    /// # Errors
    /// The first part that does not.
    pub async fn answer(&self) -> Result<(), Fault> {
        let faults = [self.accept().await, self.spool().await, self.delivery().await.map(drop)];
        faults.into_iter().filter_map(Result::err).find(|fault| fault.silent).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::Address;

    #[test]
    fn the_door_is_the_first_entrance_that_greets_a_client_of_this_machine() {
        let inet = |text: &str| ListenerConfig::new(Address::Inet(text.parse().unwrap()));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let submissions = ListenerConfig { tls: TlsMode::Implicit, ..inet("0.0.0.0:465") };
        let relays =
            ListenerConfig { allow: Some(vec!["192.0.2.0/24".parse().unwrap()]), ..inet("0.0.0.0:25") };
        let any = inet("[::]:0");
        let sockets = [(&submissions, "0.0.0.0:465"), (&relays, "0.0.0.0:25"), (&any, "[::]:2525")];
        let endpoint = |sockets: &[(&ListenerConfig, &str)]| {
            LocalEndpoint::of(sockets.iter().map(|(listener, name)| (*listener, (*name).to_owned())))
        };
        let open = endpoint(&sockets).unwrap();
        assert_eq!(open, LocalEndpoint { address: Place::Tcp(at("[::1]:2525")), greets: true });
        let shut = endpoint(&sockets[..1]).unwrap();
        assert_eq!(shut, LocalEndpoint { address: Place::Tcp(at("127.0.0.1:465")), greets: false });
        let unix = endpoint(&[(&any, "unix:/run/lmtp")]).unwrap();
        assert_eq!(unix, LocalEndpoint { address: Place::Unix("/run/lmtp".into()), greets: true });
        assert_eq!(endpoint(&[]), None);
    }
}
