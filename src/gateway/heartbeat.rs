//! The heartbeat: pings an address while accept, spool and delivery work end to end, and stops when one does not, so
//! that whoever waits for the ping pages. Each part is really used before each ping:
//!
//! - accept: a client of our own is greeted at the first entrance that takes it;
//! - spool: a small write is on disk;
//! - delivery: it answers, and no team with events that wait has been held, out of reach or without a post that its
//!   account may make for some beats, or will be.
//!
//! Left out: whether SIGNL4 pages. A single post that fails is delivery's to try again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{error, info, warn};

use crate::delivery::{Pinger, State, Status};
use crate::smtp::{Entrance, TlsMode};
use crate::spool::Memo;

use super::Intake;

/// How long each part may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how many beats a team may be held or out of reach before that stops the heart: a lost connection is found
/// and made anew within one.
const BEATS: u32 = 3;

/// Where our own client comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
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

impl Door {
    /// The first of these sockets, each with its entrance and its address in words, that greets a plain client of
    /// this machine; or else the first.
    pub fn of<'a>(sockets: impl IntoIterator<Item = (&'a Entrance, String)>) -> Option<Self> {
        let doors: Vec<Self> = sockets
            .into_iter()
            .filter_map(|(entrance, name)| {
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
                let let_in = own.is_none() || entrance.allow.as_deref().is_none_or(among);
                let greets = entrance.tls != TlsMode::Implicit && let_in && !among(&entrance.proxies);
                Some(Self { address, greets })
            })
            .collect();
        doors.iter().find(|door| door.greets).or(doors.first()).cloned()
    }

    /// Comes in as a client would.
    async fn try_it(&self) -> Result<(), String> {
        let answer = async {
            match &self.address {
                Place::Tcp(address) => answer(TcpStream::connect(address).await?).await,
                Place::Unix(path) => answer(UnixStream::connect(path).await?).await,
            }
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(greeting)) if !self.greets || greeting.starts_with("220") => Ok(()),
            Ok(Ok(greeting)) => Err(format!("a client is answered {:?}", greeting.trim_end())),
            Ok(Err(error)) => Err(format!("a client cannot connect: {error}")),
            Err(_) => Err(format!("a client is not answered within {PATIENCE:?}")),
        }
    }
}

/// What is said first to a client that says only goodbye.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    let mut line = [0; 512];
    // Behind TLS nobody speaks before the client does, and then this is not what he hears.
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
}

/// Whether events go out.
struct Flow {
    /// How long a team may be stuck.
    patience: SignedDuration,
    /// Since when the teams with events that wait are.
    stuck: HashMap<String, Timestamp>,
}

impl Flow {
    /// Whether events go out, as far as some wait.
    fn look(&mut self, statuses: &[Status], now: Timestamp) -> Result<(), String> {
        let stuck = |status: &&Status| {
            matches!(status.state, State::Held | State::Down | State::Throttled | State::Starved)
                && (status.queued > 0 || status.more)
        };
        let began = |status: &Status| {
            let starved = status.starved.map(|starved| starved.since.min(now));
            starved.or_else(|| self.stuck.get(&status.team).copied()).unwrap_or(now)
        };
        let since: HashMap<String, Timestamp> =
            statuses.iter().filter(stuck).map(|status| (status.team.clone(), began(status))).collect();
        self.stuck = since;
        let too_long = |status: &&Status| {
            // That an account may post nothing for so long is known beforehand.
            let end = status.starved.map_or(now, |starved| starved.until.max(now));
            self.stuck.get(&status.team).is_some_and(|since| end.duration_since(*since) >= self.patience)
        };
        match statuses.iter().find(too_long) {
            Some(status) => Err(format!("nothing of team {} goes out: {}", status.team, status.reason)),
            None => Ok(()),
        }
    }
}

/// What beats.
pub struct Heart {
    door: Option<Door>,
    intake: Arc<Intake>,
    pinger: Pinger,
    flow: Flow,
    /// The part that failed at the last beat.
    failed: Option<&'static str>,
    /// Whether the last ping was not taken.
    unheard: bool,
}

impl Heart {
    /// A heart that beats every `interval`.
    pub fn new(door: Option<Door>, intake: Arc<Intake>, pinger: Pinger, interval: Duration) -> Self {
        let patience = SignedDuration::try_from(interval * BEATS).unwrap_or(SignedDuration::MAX);
        let flow = Flow { patience, stuck: HashMap::new() };
        Self { door, intake, pinger, flow, failed: None, unheard: false }
    }

    /// Looks whether all works, and pings if it does. Whether the ping was taken.
    pub async fn beat(&mut self) -> bool {
        match self.check().await {
            Ok(()) => {
                if let Some(part) = self.failed.take() {
                    info!(part, "all works again: the heartbeat goes on");
                }
            }
            Err(Fault { part, problem }) => {
                if self.failed.replace(part) != Some(part) {
                    error!(part, problem, "the heartbeat stops: this does not work");
                }
                return false;
            }
        }
        let heard = self.pinger.ping().await;
        match &heard {
            Ok(()) if self.unheard => info!("the heartbeat is heard again"),
            Err(problem) if !self.unheard => {
                warn!(problem, "the heartbeat is not heard: the ping was not taken")
            }
            _ => {}
        }
        self.unheard = heard.is_err();
        heard.is_ok()
    }

    /// Looks whether all works.
    ///
    /// # Errors
    /// The first part that does not.
    pub async fn check(&mut self) -> Result<(), Fault> {
        let fault = |part| move |problem| Fault { part, problem };
        let accept = async {
            match &self.door {
                Some(door) => door.try_it().await,
                None => Err("nothing listens".to_owned()),
            }
        };
        accept.await.map_err(fault("accept"))?;
        self.write().await.map_err(fault("spool"))?;
        let statuses = match self.intake.delivery() {
            Some(delivery) => timeout(PATIENCE, delivery.status()).await,
            None => Ok(Vec::new()),
        };
        let statuses = statuses
            .map_err(|_| format!("it does not answer within {PATIENCE:?}"))
            .and_then(|found| if found.is_empty() { Err("it has stopped".to_owned()) } else { Ok(found) })
            .map_err(fault("delivery"))?;
        self.flow.look(&statuses, self.intake.now()).map_err(fault("delivery"))
    }

    async fn write(&self) -> Result<(), String> {
        let memo = Memo { kind: "heartbeat", name: String::new(), value: Some(true.into()) };
        match timeout(PATIENCE, self.intake.spool().remember(vec![memo])).await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(_) => Err(format!("a write is not on disk within {PATIENCE:?}")),
        }
    }
}

/// Lets `heart` beat every `interval` until `stop` turns true.
pub async fn run(mut heart: Heart, interval: Duration, mut stop: watch::Receiver<bool>) {
    let mut beats = tokio::time::interval(interval);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let beat = async {
            beats.tick().await;
            heart.beat().await
        };
        tokio::select! {
            _ = beat => {}
            () = async { _ = stop.wait_for(|stop| *stop).await; } => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Starved;
    use crate::smtp::Address;

    fn at(minutes: i64) -> Timestamp {
        "2026-11-20T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn status(state: State, starved: Option<Starved>) -> Status {
        let (team, reason) = ("soc".to_owned(), "why".to_owned());
        let (more, in_flight, oldest, doubles) = Default::default();
        let meets_another = false;
        Status { team, state, reason, starved, meets_another, queued: 1, more, in_flight, oldest, doubles }
    }

    #[test]
    fn the_heart_stops_when_nothing_goes_out_for_three_beats_whatever_holds_it_up() {
        for state in [State::Held, State::Down, State::Throttled] {
            let mut flow = Flow { patience: SignedDuration::from_mins(3), stuck: HashMap::new() };
            let mut look = |state, minute| flow.look(&[status(state, None)], at(minute)).is_ok();
            assert!((0..3).all(|minute| look(state, minute)), "{state:?}");
            assert!(!look(state, 3) && look(State::Open, 4) && look(state, 5), "{state:?}");
        }
        let idle = Status { queued: 0, ..status(State::Held, None) };
        let mut flow = Flow { patience: SignedDuration::ZERO, stuck: HashMap::new() };
        assert_eq!(flow.look(&[idle], at(0)), Ok(()), "where nothing waits nothing is stuck");
    }

    #[test]
    fn the_heart_stops_at_once_when_an_account_is_known_to_post_nothing_for_three_beats() {
        let mut flow = Flow { patience: SignedDuration::from_mins(3), stuck: HashMap::new() };
        let mut look = |since, until, now| {
            let starved = Starved { since: at(since), until: at(until) };
            flow.look(&[status(State::Starved, Some(starved))], at(now))
        };
        assert_eq!(look(0, 2, 1), Ok(()));
        assert_eq!(look(0, 40, 1), Err("nothing of team soc goes out: why".to_owned()));
        assert!(look(0, 4, 3).is_err(), "nor has for three beats");
    }

    #[test]
    fn the_door_is_the_first_entrance_that_greets_a_client_of_this_machine() {
        let inet = |text: &str| Entrance::new(Address::Inet(text.parse().unwrap()));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let submissions = Entrance { tls: TlsMode::Implicit, ..inet("0.0.0.0:465") };
        let relays = Entrance { allow: Some(vec!["192.0.2.0/24".parse().unwrap()]), ..inet("0.0.0.0:25") };
        let any = inet("[::]:0");
        let sockets = [(&submissions, "0.0.0.0:465"), (&relays, "0.0.0.0:25"), (&any, "[::]:2525")];
        let door = |sockets: &[(&Entrance, &str)]| {
            Door::of(sockets.iter().map(|(entrance, name)| (*entrance, (*name).to_owned())))
        };
        let open = door(&sockets).unwrap();
        assert_eq!(open, Door { address: Place::Tcp(at("[::1]:2525")), greets: true });
        let shut = door(&sockets[..1]).unwrap();
        assert_eq!(shut, Door { address: Place::Tcp(at("127.0.0.1:465")), greets: false });
        let unix = door(&[(&any, "unix:/run/lmtp")]).unwrap();
        assert_eq!(unix, Door { address: Place::Unix("/run/lmtp".into()), greets: true });
        assert_eq!(door(&[]), None);
    }
}
