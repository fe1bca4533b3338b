//! The resolver: where the check asks for DNS records. The system's, or a zone in memory.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dmarc::Dmarc;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::hickory_resolver::system_conf::read_system_conf;
use mail_auth::spf::Spf;
use mail_auth::{DnsError, DnssecStatus, Error, MX, MessageAuthenticator, RecordSet, ResolverCache, Txt};
use tokio::time::timeout;
use tracing::{info, warn};

use super::breaker::{Breaker, News, Turn};

/// How long the root of all names may take. A resolver has it cached, or is one question away from it.
const ROOT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where DNS records come from. A clone asks the same place.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    /// Made when the first mail is checked: a machine without DNS starts, and one that gets it later has it.
    authenticator: OnceLock<MessageAuthenticator>,
    /// Whether the lack of it was told.
    told: AtomicBool,
    zone: Zone,
    breaker: Breaker,
}

impl Resolver {
    /// The resolver that the system is configured to use. It keeps answers as long as they are valid.
    pub fn system() -> Self {
        Self(Arc::new(Inner {
            authenticator: OnceLock::new(),
            told: AtomicBool::new(false),
            zone: Zone::default(),
            breaker: Breaker::default(),
        }))
    }

    /// A zone in memory, for tests: names, types (`TXT`, `A`, `AAAA`, `MX`, or `SERVFAIL` for a name that
    /// cannot be asked for) and values. There are no other names, and no server is asked.
    pub fn fixed(records: &[(&str, &str, &str)]) -> Self {
        Self::of(ResolverConfig::default(), ResolverOpts::default(), Zone::of(records))
    }

    fn of(config: ResolverConfig, options: ResolverOpts, zone: Zone) -> Self {
        let authenticator = MessageAuthenticator::new(config, options).expect("this config names no files");
        Self(Arc::new(Inner {
            authenticator: authenticator.into(),
            told: AtomicBool::new(false),
            zone,
            breaker: Breaker::default(),
        }))
    }

    /// Who checks; none if the system has no resolver.
    pub(super) fn authenticator(&self) -> Option<&MessageAuthenticator> {
        if let Some(made) = self.0.authenticator.get() {
            return Some(made);
        }
        match read_system_conf().and_then(|(config, options)| MessageAuthenticator::new(config, options)) {
            Ok(made) => {
                if self.0.told.swap(false, Ordering::Relaxed) {
                    info!("there is a DNS resolver again: mails from outside are checked");
                }
                Some(self.0.authenticator.get_or_init(|| made))
            }
            Err(error) => {
                if !self.0.told.swap(true, Ordering::Relaxed) {
                    warn!(%error, "no DNS resolver: mails from outside cannot be checked and count as unproven");
                }
                None
            }
        }
    }

    /// Whether DNS may be asked about a mail that came at `now`. Finding that out takes no longer than `limit`.
    pub(super) async fn is_worth_asking(&self, now: Timestamp, limit: Duration) -> bool {
        match self.0.breaker.turn(now) {
            Turn::Check => true,
            Turn::Skip => false,
            Turn::Root => self.ask_root(now, limit).await,
        }
    }

    /// Notes whether the check of a mail that came at `now` was answered.
    pub(super) async fn checked(&self, answered: bool, now: Timestamp, limit: Duration) {
        if self.0.breaker.checked(answered) {
            self.ask_root(now, limit).await;
        }
    }

    /// Finds out whether DNS works at all, and tells it if that is news.
    async fn ask_root(&self, now: Timestamp, limit: Duration) -> bool {
        let answers = self.answers(limit.min(ROOT_TIMEOUT)).await;
        match self.0.breaker.root(now, answers) {
            Some(News::Dead) => warn!(
                "DNS does not answer: mails from outside are taken unchecked, without waiting for it, and count as unproven"
            ),
            Some(News::Alive(unchecked)) => {
                info!(unchecked, "DNS answers again: mails from outside are checked");
            }
            None => (),
        }
        answers
    }

    async fn answers(&self, limit: Duration) -> bool {
        let Some(authenticator) = self.authenticator() else { return false };
        let root = authenticator.txt_lookup::<Spf>(".", Some(&self.0.zone.txt));
        !matches!(timeout(limit, root).await, Err(_) | Ok(Err(Error::Dns(DnsError::Resolver(_)))))
    }

    /// What is known without asking.
    pub(super) fn zone(&self) -> &Zone {
        &self.0.zone
    }
}

/// Records that are known. mail-auth looks for each record in a cache before it asks; this is that cache.
#[derive(Default)]
pub(super) struct Zone {
    pub(super) txt: Records<Box<str>, Txt>,
    pub(super) mx: Records<Box<str>, RecordSet<MX>>,
    pub(super) ipv4: Records<Box<str>, RecordSet<Ipv4Addr>>,
    pub(super) ipv6: Records<Box<str>, RecordSet<Ipv6Addr>>,
    pub(super) ptr: Records<IpAddr, RecordSet<Box<str>>>,
}

/// Records of one type.
pub(super) struct Records<K, V> {
    known: HashMap<K, V>,
    /// The answer for every other name; where there is none, somebody is asked.
    other: Option<V>,
}

impl<K, V> Default for Records<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), other: None }
    }
}

impl<K: Hash + Eq, V: Clone> ResolverCache<K, V> for Records<K, V> {
    fn get<Q>(&self, name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.known.get(name).or(self.other.as_ref()).cloned()
    }

    fn remove<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    // The system's resolver has a cache of its own.
    fn insert(&self, _: K, _: V, _: Instant) {}
}

fn set<T>(values: Vec<T>) -> RecordSet<T> {
    RecordSet { rrset: values.into(), dnssec_status: DnssecStatus::Indeterminate }
}

impl Zone {
    fn of(records: &[(&str, &str, &str)]) -> Self {
        let mut zone = Self::default();
        zone.txt.other = Some(Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain))));
        zone.mx.other = Some(set(Vec::new()));
        zone.ipv4.other = Some(set(Vec::new()));
        zone.ipv6.other = Some(set(Vec::new()));
        zone.ptr.other = Some(set(Vec::new()));
        for (name, kind, value) in records {
            let name: Box<str> = format!("{}.", name.to_ascii_lowercase()).into();
            match *kind {
                "TXT" => _ = zone.txt.known.insert(name.clone(), txt(&name, value)),
                "SERVFAIL" => {
                    let failure = Txt::Error(Error::Dns(DnsError::Resolver("SERVFAIL".to_owned())));
                    zone.txt.known.insert(name, failure);
                }
                "MX" => {
                    let mx = MX { exchanges: vec![format!("{value}.").into()].into(), preference: 10 };
                    zone.mx.known.insert(name, set(vec![mx]));
                }
                "A" => {
                    let address = value.parse().expect("an A record is an IPv4 address");
                    zone.ipv4.known.insert(name, set(vec![address]));
                }
                "AAAA" => {
                    let address = value.parse().expect("an AAAA record is an IPv6 address");
                    zone.ipv6.known.insert(name, set(vec![address]));
                }
                other => panic!("a zone in memory has no {other} records"),
            }
        }
        zone
    }
}

/// A TXT record as the one who asks for this name reads it.
fn txt(name: &str, value: &str) -> Txt {
    if name.contains("._domainkey.") {
        DomainKey::parse(value.as_bytes()).into()
    } else if name.starts_with("_dmarc.") {
        Dmarc::parse(value.as_bytes()).into()
    } else {
        Spf::parse(value.as_bytes()).into()
    }
}

#[cfg(test)]
impl Resolver {
    /// One that asks the server at this port of loopback.
    pub(super) fn at(port: u16) -> Self {
        use mail_auth::hickory_resolver::config::{ConnectionConfig, NameServerConfig};
        let mut connection = ConnectionConfig::udp();
        connection.port = port;
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_name_servers(vec![server]);
        Self::of(config, ResolverOpts::default(), Zone::default())
    }
}
