//! What is said on the control socket: a client writes one JSON line, and the content of a mail behind it where the
//! request has one; it reads one JSON line.

use std::io;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::event::Event;
use crate::mail::{Envelope, MailId};
use crate::unix;

/// Longest request line in bytes: an event with a full message fits.
const LINE_LIMIT: u64 = 256 * 1024;

/// Largest content that `submit` reads, in bytes. A service takes no more than its `max-message-size`.
pub const CONTENT_LIMIT: usize = 64 << 20;

/// What a client wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Request {
    /// Takes the mail whose content of `size` bytes follows.
    Submit {
        /// Its envelope.
        envelope: Envelope,
        /// Bytes of content behind the line.
        size: usize,
    },
    /// Takes an event.
    Send {
        /// The envelope to keep it under.
        envelope: Envelope,
        /// The event.
        event: Box<Event>,
        /// Seconds to wait for its delivery; none answers once it is on disk.
        wait: Option<u64>,
    },
    /// Posts again what failed or waits: of one mail, or everything.
    Retry {
        /// The mail, or none for all.
        id: Option<MailId>,
        /// Whether today's rules make the events anew.
        rejudge: bool,
    },
    /// Posts what of a mail failed or waits to another team.
    Retarget {
        /// The mail.
        id: MailId,
        /// The team.
        team: String,
    },
    /// Tells how delivery stands with each team.
    Status,
    /// Puts what is new in the config and the rules in force.
    Reload,
    /// Gives up on a mail's events that were not delivered.
    Drop {
        /// The mail.
        id: MailId,
    },
    /// Mutes what would page.
    Mute {
        /// When it ends by itself.
        until: Timestamp,
        /// What it mutes, each as `KEY=REGEX`; everything if there is none.
        conditions: Vec<String>,
        /// Why.
        reason: Option<String>,
        /// Whether it mutes critical events as well.
        critical: bool,
    },
    /// Ends a mute, or all.
    EndMute {
        /// The mute, or none for all.
        id: Option<String>,
    },
}

/// What the service answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is on disk.
    Queued {
        /// Its id.
        id: MailId,
    },
    /// It was delivered.
    Delivered {
        /// Its id.
        id: MailId,
        /// What SIGNL4 calls it.
        event_id: Option<String>,
    },
    /// It is on disk, and did not leave it while the client waited.
    Waiting {
        /// Its id.
        id: MailId,
        /// Why not yet, or why never.
        reason: String,
    },
    /// It is on disk, and is not sent: a repeat of what was paged, or the like.
    Kept {
        /// Its id.
        id: MailId,
        /// Why it is not sent.
        reason: String,
    },
    /// So many events were changed.
    Changed {
        /// How many.
        events: usize,
    },
    /// These mutes were begun or ended.
    Mutes {
        /// Their ids.
        ids: Vec<String>,
    },
    /// How it stands.
    Status {
        /// With each team.
        teams: Vec<TeamStatus>,
        /// With the disk, if it does not answer.
        disk: Option<String>,
        /// With the config and the rules on disk, if they are broken.
        #[serde(default)]
        config: Option<String>,
    },
    /// What is new is in force.
    Reloaded {
        /// The settings that have changed and need a restart.
        pending: Vec<String>,
    },
    /// The config or the rules are broken, and the old ones stay in force.
    Broken {
        /// Everything that is wrong with them, each with its place.
        problems: Vec<String>,
    },
    /// It did not work, and may later.
    Temporary(String),
    /// It cannot work.
    Refused(String),
}

/// How it stands with a team.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TeamStatus {
    /// The team.
    pub team: String,
    /// Whether its events go out, in a word or two.
    pub state: String,
    /// Why not; empty if they do.
    pub reason: String,
    /// Since when nothing goes out, if its account has posted what it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Request {
    /// What it is called on the socket and in the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Submit { .. } => "submit",
            Self::Send { .. } => "send",
            Self::Retry { .. } => "retry",
            Self::Retarget { .. } => "retarget",
            Self::Drop { .. } => "drop",
            Self::Mute { .. } => "mute",
            Self::EndMute { .. } => "end-mute",
            Self::Status => "status",
            Self::Reload => "reload",
        }
    }

    /// The mail in the spool that it is about, if it is about one.
    pub fn mail(&self) -> Option<MailId> {
        match self {
            Self::Retry { id, .. } => *id,
            Self::Retarget { id, .. } | Self::Drop { id } => Some(*id),
            _ => None,
        }
    }
}

/// Who asks: a user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    /// His number.
    pub uid: u32,
}

impl Operator {
    /// The user that runs this process.
    pub fn of_process() -> Self {
        Self { uid: rustix::process::geteuid().as_raw() }
    }

    /// His name, or his number if the machine's own list does not have him.
    pub fn name(self) -> String {
        unix::user_name(self.uid).unwrap_or_else(|| self.uid.to_string())
    }
}

/// Writes `reply`.
pub(super) async fn reply_to(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Reads a request, and the content behind it of at most `limit` bytes; what is wrong with it, for the client.
pub(super) async fn read_request(
    stream: &mut BufReader<UnixStream>,
    limit: usize,
) -> io::Result<Result<(Request, Bytes), String>> {
    let mut line = Vec::new();
    stream.take(LINE_LIMIT).read_until(b'\n', &mut line).await?;
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => return Ok(Err(format!("the service does not understand this request: {error}"))),
    };
    let Request::Submit { size, .. } = request else { return Ok(Ok((request, Bytes::new()))) };
    if size > limit {
        return Ok(Err(format!("the mail is larger than `max-message-size`, {limit} bytes")));
    }
    let mut content = Vec::with_capacity(size.min(1 << 20));
    stream.take(size as u64).read_to_end(&mut content).await?;
    if content.len() < size {
        return Ok(Err("the mail ended early".to_owned()));
    }
    Ok(Ok((request, content.into())))
}
