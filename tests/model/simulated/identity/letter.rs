//! What is written to the gateway, and by whom: two installations of one product, a partner who proves himself, senders
//! without a rule, and a stranger who forges all of them.

use std::net::IpAddr;

use fastrand::Rng;
use jiff::Timestamp;
use smtp2signl4::mail::{Client, Envelope};

use super::super::signl4::Weather;
use crate::record::{MINUTE, Millis};

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// An installation of the product, from inside.
    Tool(u8),
    /// One that has logged in from outside.
    Partner,
    /// Somebody outside who writes the address of an installation into From.
    Stranger(u8),
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A host that a shipped rule knows is down, the worse of two ways or the other.
    Down { host: u8, worse: bool },
    /// It is up.
    Up { host: u8 },
    /// Somebody sees to it.
    Acknowledged { host: u8 },
    /// A fault under a subject that never changes.
    Fault { subject: u8, text: u8 },
    /// A mark in front of a subject that no rule knows: a problem, or its end.
    Marked { subject: u8, end: bool },
}

/// What happens to the gateway after a mail.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// It is killed so long after it has acknowledged the mail, and starts again so long after that.
    Kill { within: Millis, down: Millis },
    /// The same, but it is stopped in order.
    Stop { within: Millis, down: Millis },
    /// The net or SIGNL4 is not as it should be, for a time.
    Weather(Weather, Millis),
    /// The disk fails, for a time.
    Disk(Millis),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    /// Seconds after the one before.
    pub(super) after: i64,
    pub(super) who: Who,
    pub(super) what: What,
    pub(super) trouble: Option<Trouble>,
}

/// Long enough for all that is under way where nothing fails.
const SETTLED: Millis = 700;

impl Trouble {
    /// What changes nothing for others: the gateway is started again while nothing is under way.
    fn calm(rng: &mut Rng) -> Self {
        let down = rng.i64(100..20_000);
        let within = SETTLED;
        if rng.bool() { Self::Kill { within, down } } else { Self::Stop { within, down } }
    }

    fn any(rng: &mut Rng) -> Self {
        let spell = if rng.u8(0..4) == 0 { rng.i64(0..20 * MINUTE) } else { rng.i64(0..90_000) };
        match rng.u8(0..10) {
            0..4 => Self::Kill { within: rng.i64(0..400), down: rng.i64(100..3 * MINUTE) },
            4 => Self::Stop { within: rng.i64(0..400), down: rng.i64(0..20_000) },
            5 => Self::Disk(rng.i64(0..6_000)),
            _ => {
                let errors = Weather::Errors(*rng.choice(&[500, 502, 504]).expect("there are some"));
                let throttled = Weather::Throttled(rng.bool());
                let (refused, silent, lossy) = (Weather::Refused, Weather::Silent, Weather::Lossy);
                let list = [refused, silent, lossy, lossy, errors, Weather::Flaky, throttled];
                Self::Weather(*rng.choice(&list).expect("there are some"), spell)
            }
        }
    }
}

impl Letter {
    /// Any letter; where it is `stormy` anything may happen to the gateway.
    pub(super) fn draw(rng: &mut Rng, stormy: bool) -> Self {
        let after = match rng.u8(0..10) {
            0..6 => rng.i64(0..20),
            6..9 => rng.i64(0..300),
            _ => rng.i64(0..2_400),
        };
        let who = match rng.u8(0..10) {
            0..4 => Who::Tool(0),
            4..6 => Who::Tool(1),
            6 => Who::Partner,
            _ => Who::Stranger(rng.u8(0..2)),
        };
        let host = rng.u8(0..2);
        let what = match rng.u8(0..12) {
            0..4 => What::Down { host, worse: rng.bool() },
            4..6 => What::Up { host },
            6 => What::Acknowledged { host },
            7..10 => What::Fault { subject: rng.u8(0..2), text: rng.u8(0..12) },
            _ => What::Marked { subject: rng.u8(0..2), end: rng.bool() },
        };
        let trouble =
            (rng.u8(0..8) == 0).then(|| if stormy { Trouble::any(rng) } else { Trouble::calm(rng) });
        Self { after, who, what, trouble }
    }

    /// A word that stands in the mail and in no mail about something else.
    pub(super) fn token(&self) -> String {
        let who = self.who.mailbox();
        match self.what {
            What::Down { host, .. } | What::Up { host } | What::Acknowledged { host } => {
                format!("of-{who}-host{host}.")
            }
            What::Fault { subject, text } => format!("of-{who}-fault{subject}x{text}."),
            What::Marked { subject, .. } => format!("of-{who}-service{subject}."),
        }
    }

    /// The mail, with the time of its sender in it as programs write it.
    pub(super) fn content(&self, serial: usize, now: Timestamp) -> String {
        let (who, token) = (self.who.mailbox(), self.token());
        let time = now.strftime("%Y-%m-%d %H:%M:%S");
        let (subject, text) = match self.what {
            What::Down { host, worse } => {
                host_alert("PROBLEM", host, if worse { "DOWN" } else { "UNREACHABLE" }, &token)
            }
            What::Up { host } => host_alert("RECOVERY", host, "UP", &token),
            What::Acknowledged { host } => host_alert("ACKNOWLEDGEMENT", host, "DOWN", &token),
            What::Fault { subject, .. } => {
                (format!("Alert {subject} of the device"), format!("{token}\nTime: {time}"))
            }
            What::Marked { subject, end } => {
                let mark = if end { "RESOLVED" } else { "FIRING" };
                (format!("[{mark}] service{subject} of {who}"), format!("{token}\nTime: {time}"))
            }
        };
        format!(
            "From: {who}@{who}.site.example\r\nSubject: {subject}\r\nMessage-ID: <m{serial}@site.example>\r\n\
             Date: {}\r\n\r\n{}\r\n",
            now.strftime("%a, %d %b %Y %H:%M:%S +0000"),
            text.replace('\n', "\r\n"),
        )
    }

    pub(super) fn envelope(&self, now: Timestamp) -> Envelope {
        let address: IpAddr = match self.who {
            Who::Tool(_) => [10, 0, 0, 7].into(),
            Who::Partner => [198, 51, 100, 7].into(),
            Who::Stranger(_) => [203, 0, 113, 9].into(),
        };
        let user = (self.who == Who::Partner).then(|| "partner".to_owned());
        Envelope {
            received_at: now,
            client: Client { address: Some(address), user, ..Client::default() },
            reverse_path: "tool@site.example".to_owned(),
            recipients: vec!["soc@site.example".to_owned()],
            ..Envelope::default()
        }
    }

    pub(super) fn is_strangers(&self) -> bool {
        matches!(self.who, Who::Stranger(_))
    }

    pub(super) fn is_problem(&self) -> bool {
        matches!(self.what, What::Down { .. } | What::Fault { .. } | What::Marked { end: false, .. })
    }

    /// Whether it ends what `problem` tells of.
    pub(super) fn ends(&self, problem: &Self) -> bool {
        let same = match (self.what, problem.what) {
            (What::Up { host }, What::Down { host: of, .. }) => host == of,
            (What::Marked { subject, end: true }, What::Marked { subject: of, .. }) => subject == of,
            _ => false,
        };
        same && self.who == problem.who && !self.is_strangers()
    }
}

impl Who {
    fn mailbox(self) -> &'static str {
        match self {
            Self::Tool(0) | Self::Stranger(0) => "north",
            Self::Tool(_) | Self::Stranger(_) => "south",
            Self::Partner => "partner",
        }
    }
}

fn host_alert(kind: &str, host: u8, state: &str, token: &str) -> (String, String) {
    let subject = format!("** {kind} Host Alert: host{host} is {state} **");
    let text = format!(
        "***** Nagios *****\n\nNotification Type: {kind}\nHost: host{host}\nState: {state}\nAddress: 192.0.2.1\n\
         Info: {token}\n\nDate/Time: today"
    );
    (subject, text)
}
