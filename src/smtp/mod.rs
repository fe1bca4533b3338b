//! The edge: takes mails in by SMTP and hands each to an [`Accept`].
//!
//! ```text
//! listener ──► connection ──► session ──► command · data · reply
//! sockets      bytes, time    protocol    its three parts, without I/O
//! ```
//!
//! It promises that a mail is answered `250` only when [`Accept::accept`] said that it is kept; that
//! nothing but CRLF.CRLF ends a mail; and that whatever clients do, each of them and all together are
//! held within the limits of the [`Config`]. What it needs of the rest of the gateway it asks of the
//! trait; it knows neither rules nor spool.
//!
//! Who comes in is looked at in this order, and each refusal has its reply and its line in the log:
//!
//! ```text
//! connection   the sessions of all, the networks of the listener, the sessions and the rate of the client
//! greeting     that it is one
//! sender       TLS and a login where the listener wants them, and its patterns
//! recipient    that a team takes mail for it
//! size         what MAIL declares and what comes
//! rate         the mails of the client, of the sender and for the recipient
//! ```
//!
//! It cannot be an open relay: a mail goes to [`Accept`] and nowhere else, and there is nothing here that
//! could send one.
//!
//! Two extensions are not offered, for they would earn nothing. DSN (RFC 3461): no mail goes on from here of which
//! there could be a report, and one of success would be a mail that we send to a stranger. LIMITS (RFC 9422): a session
//! may have any number of mails, and no sender of alerts comes near the recipients that a mail may have.
//!
//! The content of a mail stays as it was received: no Received field is put on top (RFC 5321 section
//! 4.4). The mail leaves SMTP here, as it does at a mailbox, and what the field would say is in the
//! envelope.

mod admission;
pub mod auth;
pub mod chunk;
pub mod command;
mod connection;
mod content;
mod credentials;
pub mod data;
mod descriptors;
pub mod lenience;
mod listener;
pub mod listener_config;
pub mod logins;
mod memory;
pub mod proxy;
pub mod rates;
pub mod reply;
mod senders;
pub mod session;
mod socket;
mod stamp;
pub mod strangers;
mod stream;
pub mod tls;
pub mod users;
pub mod xclient;

pub use credentials::Credentials;
pub use listener::Listener;
pub use listener_config::{Address, ListenerConfig, Protocol, TlsMode};
pub use rates::Limits;
pub use senders::Senders;
pub use socket::Inherited;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::document::{NamedFile, Table};
use crate::mail::{Mail, MailId};

/// What the edge needs of the gateway behind it.
pub trait Accept: Send + Sync + 'static {
    /// Whether some team takes mail for this forward-path, given without brackets. If not, it is refused
    /// with 550 5.1.1.
    fn recipient(&self, address: &str) -> bool;

    /// Takes the mail for good: `Ok` only when it is on disk, for the client then forgets it.
    fn accept(&self, mail: Mail) -> impl Future<Output = Result<MailId, Refusal>> + Send;
}

/// Why a mail was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no space: 452 4.3.1.
    Full,
    /// An I/O error, or the gateway shuts down: 451 4.3.0.
    Unavailable,
    /// It fails DMARC, and the policy of its domain is to reject such mails: 550 5.7.26.
    Unauthentic,
    /// Nothing proves who sent it, and too many such mails came from its client: 450 4.7.1.
    TooMany,
}

/// The `[smtp]` section. The defaults are those of [`Config::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `listen` and `[[listener]]`: where clients come in, and by which rules. `listen = ["127.0.0.1:2525"]`.
    pub listeners: Vec<ListenerConfig>,
    /// `[[certificate]]` and `client-ca`: the server's certificates, and the issuers of client certificates.
    pub tls: tls::Config,
    /// `users`: the file of users who may log in. Default: none.
    pub users: Option<NamedFile>,
    /// `hostname`: the name in the greeting. That of the system.
    pub hostname: String,
    /// `max-message-size`: the largest content of a mail, in bytes. 25 MiB.
    pub max_message_size: usize,
    /// `max-recipients`: how many RCPT commands a mail may have, the refused ones too. 1000; RFC 5321
    /// section 4.5.3.1.8 asks for 100.
    pub max_recipients: usize,
    /// `max-sessions`: how many sessions there may be at a time. 900: of the 1,024 file descriptors that
    /// a process usually has, they leave some to the spool and the deliveries. A tenth is for clients that are exempt
    /// from the rates.
    pub max_sessions: usize,
    /// `max-sessions-per-client`: how many of them may come from one address, unless it is exempt from the rates.
    /// 100: five Postfix behind one address, which open at most 20 each.
    pub max_sessions_per_client: usize,
    /// `[smtp.rates]`: how often clients may come.
    pub rates: Limits,
    /// `max-errors`: at how many refused commands, with no mail taken between, the session ends. 20, as in
    /// Postfix.
    pub max_errors: usize,
    /// `max-memory`: how much memory the mails of all sessions may have together, in bytes. 256 MiB, of which a quarter
    /// is for clients that are exempt from the rates or have authenticated themselves.
    pub max_memory: usize,
    /// `max-hops`: how many Received fields a mail may have; one with more goes round in circles. 100, the least
    /// that RFC 5321 section 6.3 asks for: a loop is found as surely, and no mail is refused that only has far
    /// to go.
    pub max_hops: usize,
    /// `command-timeout`: how long a client may take for a command. 5 minutes, as RFC 5321 section
    /// 4.5.3.2.7 asks.
    pub command_timeout: Duration,
    /// `data-timeout`: how long a client may take within a message for a block of 4 KiB, or for the rest. 3
    /// minutes, the time that RFC 5321 section 4.5.3.2.5 gives a client for a block.
    pub data_timeout: Duration,
    /// `message-timeout`: how long a message may take from DATA or the first BDAT to its end. 15 minutes.
    pub message_timeout: Duration,
    /// `session-timeout`: how long a session may go on without that a mail is taken. 30 minutes: a session
    /// that is kept open and works has no end, and one that only keeps its seat has.
    pub session_timeout: Duration,
    /// `drain`: how long sessions that are inside DATA may go on when the service stops. 10 seconds, well
    /// below the 90 after which systemd would kill it.
    pub drain: Duration,
    /// What works and is most likely not meant so, each at its place.
    pub warnings: Vec<Diagnostic>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: vec![ListenerConfig::new(Address::Inet(SocketAddr::from(([127, 0, 0, 1], 2525))))],
            tls: tls::Config::default(),
            users: None,
            hostname: system_hostname(),
            max_message_size: 25 << 20,
            max_recipients: 1000,
            max_sessions: 900,
            max_sessions_per_client: 100,
            rates: Limits::default(),
            max_errors: 20,
            max_memory: 256 << 20,
            max_hops: 100,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            message_timeout: Duration::from_secs(900),
            session_timeout: Duration::from_secs(1800),
            drain: Duration::from_secs(10),
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the section. What is wrong with it is reported at its place; [`Table::finish`] is left to
    /// the caller.
    pub fn read(table: &mut Table<'_>) -> Self {
        let (tls, users) = (tls::Config::read(table), table.file("users"));
        let mut config = Self { tls, users, ..Self::default() };
        let site = listener_config::Site {
            certificates: table.has("certificate"),
            client_ca: config.tls.client_ca.is_some(),
            users: config.users.is_some(),
        };
        let default = std::mem::take(&mut config.listeners);
        config.listeners = listener_config::read(table, site, default, &mut config.warnings);
        if let Some(hostname) = table.string("hostname") {
            if is_hostname(&hostname.value) {
                config.hostname = hostname.value;
            } else {
                table.error(
                    hostname.span,
                    format!("`{}` is not a hostname", hostname.value.escape_debug()),
                    "letters, digits, dots and hyphens, such as `alerts.example.org`",
                );
            }
        }
        let memory_span = table.value("max-memory").map(|value| value.span());
        let size_span = table.value("max-message-size").map(|value| value.span());
        set(&mut config.max_memory, table.size("max-memory"));
        set(&mut config.max_message_size, table.size("max-message-size"));
        if config.max_message_size < MIN_MESSAGE_SIZE {
            table.error(
                size_span.clone().unwrap_or_else(|| table.span()),
                "`max-message-size` is too small",
                "at least 64 KiB, which every mail server must take (RFC 5321 section 4.5.3.1.7)",
            );
        }
        // Or the largest mails would never come in.
        if config.max_memory < config.max_message_size {
            table.error(
                memory_span.or(size_span).unwrap_or_else(|| table.span()),
                "`max-memory` has no room for a mail of `max-message-size`",
                "make it larger, or `max-message-size` smaller",
            );
        }
        set(&mut config.max_recipients, count(table, "max-recipients", 100..=100_000));
        set(&mut config.max_sessions, count(table, "max-sessions", 1..=1_000_000));
        set(&mut config.max_sessions_per_client, count(table, "max-sessions-per-client", 1..=1_000_000));
        set(&mut config.rates, table.table("rates").map(Limits::read));
        set(&mut config.max_errors, count(table, "max-errors", 1..=1_000_000));
        set(&mut config.max_hops, count(table, "max-hops", 10..=10_000));
        set(&mut config.command_timeout, timeout(table, "command-timeout"));
        set(&mut config.data_timeout, timeout(table, "data-timeout"));
        set(&mut config.message_timeout, timeout(table, "message-timeout"));
        set(&mut config.session_timeout, timeout(table, "session-timeout"));
        set(&mut config.drain, table.duration("drain"));
        config
    }
}

/// The least that every server must take (RFC 5321 section 4.5.3.1.7).
const MIN_MESSAGE_SIZE: usize = 64 << 10;

fn set<T>(field: &mut T, found: Option<T>) {
    if let Some(value) = found {
        *field = value;
    }
}

fn count(table: &mut Table<'_>, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<usize> {
    table.integer(key, range).and_then(|n| usize::try_from(n).ok())
}

/// A time that a client may take, which cannot be none.
fn timeout(table: &mut Table<'_>, key: &'static str) -> Option<Duration> {
    let span = table.value(key)?.span();
    let found = table.duration(key)?;
    if found < Duration::from_secs(1) {
        table.error(span, format!("`{key}` is too short"), "at least \"1s\"");
    }
    Some(found)
}

/// Whether the name can stand in a greeting without being taken for anything else.
fn is_hostname(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte))
}

/// The name of this machine, or `localhost` where it has none. Asked of the system and not read from /proc, which
/// a service manager may hide.
fn system_hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_hostname(&name) { name } else { "localhost".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document::read;

    fn config(text: &str) -> Result<Config, Vec<String>> {
        read(&Source::new("t.toml", text), Config::read).map_err(|found| {
            found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    #[test]
    fn an_empty_section_is_the_defaults() {
        assert_eq!(config(""), Ok(Config::default()));
    }

    #[test]
    fn by_default_only_this_machine_comes_in_and_nobody_is_believed() {
        let config = Config::default();
        for listener in &config.listeners {
            let Address::Inet(address) = listener.address else { panic!("{}", listener.address) };
            assert!(address.ip().is_loopback() && !listener.public && !listener.lenient);
            assert!(listener.proxies.is_empty() && listener.xclient.is_empty());
            assert!(listener.accept_any_login.is_empty() && !listener.auth_without_tls);
        }
        assert_eq!(config.listeners.len(), 1);
    }

    #[test]
    fn every_key_is_read() {
        let found = config(
            "listen = ['[::1]:25', '0.0.0.0:465']\nhostname = 'mx'\nmax-message-size = '1 MiB'\nmax-recipients = 100\n\
             max-sessions = 2\nmax-sessions-per-client = 1\nmax-errors = 3\nmax-memory = '2 MiB'\ncommand-timeout = '1m'\n\
             data-timeout = '2m'\nmessage-timeout = '3m'\ndrain = '4s'\nmax-hops = 50\nsession-timeout = '5m'\n",
        );
        let wanted = Config {
            listeners: ["[::1]:25", "0.0.0.0:465"]
                .map(|address| ListenerConfig::new(Address::Inet(address.parse().unwrap())))
                .into(),
            hostname: "mx".into(),
            tls: tls::Config::default(),
            users: None,
            max_message_size: 1 << 20,
            max_recipients: 100,
            max_sessions: 2,
            max_sessions_per_client: 1,
            rates: Limits::default(),
            max_errors: 3,
            max_memory: 2 << 20,
            max_hops: 50,
            command_timeout: Duration::from_secs(60),
            data_timeout: Duration::from_secs(120),
            message_timeout: Duration::from_secs(180),
            session_timeout: Duration::from_secs(300),
            drain: Duration::from_secs(4),
            warnings: found.as_ref().unwrap().warnings.clone(),
        };
        assert_eq!(found, Ok(wanted));
    }

    #[test]
    fn the_senders_of_all_entrances_are_those_of_an_entrance_that_names_none() {
        let found = config(
            "listen = '[::1]:25'\nsenders-deny = '*@spam.example'\n[[listener]]\naddress = '[::1]:26'\n\
             [[listener]]\naddress = '[::1]:27'\nsenders-allow = 'a@spam.example'\nsenders-deny = []\n",
        )
        .unwrap();
        let admits = |at: usize, sender: &str| found.listeners[at].senders.admit(sender);
        assert_eq!([0, 1, 2].map(|at| admits(at, "a@spam.example")), [false, false, true]);
        assert_eq!([0, 1, 2].map(|at| admits(at, "b@site.example")), [true, true, false]);
        let unnamed = config("senders-allow = 'a@b'\n").unwrap();
        assert!(!unnamed.listeners[0].senders.admit("c@d"));
    }

    #[test]
    fn what_cannot_work_is_said_at_its_place() {
        assert_eq!(
            config(
                "listen = ['localhost', ':25']\nhostname = 'a b'\nmax-memory = '20 MiB'\nmax-recipients = 1\n"
            )
            .unwrap_err(),
            [
                "1:11: `localhost` is not a listen address",
                "1:24: `:25` is not a listen address",
                "2:12: `a b` is not a hostname",
                "3:14: `max-memory` has no room for a mail of `max-message-size`",
                "4:18: `max-recipients` is out of range",
            ]
        );
        assert_eq!(
            config("[rates]\nclient = '600'\nsender = 600\nexempt = ['here']\nsendr = 'off'\n").unwrap_err(),
            [
                "2:10: `600` is not a rate",
                "3:10: `rates.sender` is an integer",
                "4:11: `here` is not a network",
                "5:1: unknown field `sendr` in `rates`",
            ]
        );
        assert_eq!(config("listen = []\n").unwrap_err(), ["1:10: `listen` is empty"]);
        assert_eq!(config("data-timeout = '0s'\n").unwrap_err(), ["1:16: `data-timeout` is too short"]);
        assert_eq!(config("max-message-size = 9\n").unwrap_err(), ["1:20: `max-message-size` is too small"]);
    }
}
