//! The control socket: how `submit`, `send`, `close` and `queue` talk to a running service.
//!
//! A client writes one JSON line, and the content of a mail behind it where the request has one; it reads
//! one JSON line. Who may connect is said by the mode and the group of the socket's file; whoever may change the queue
//! may send, close and acknowledge as well. Where everybody may connect, others hand in mail and no more, as with
//! sendmail(8): SO_PEERCRED tells them apart. No user takes more than a part of the service.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, info, warn};

use crate::config::Control;
use crate::delivery::{self, State};
use crate::event::Event;
use crate::mail::{Client, Envelope, Mail, MailId, Origin};
use crate::spool::{self, Outcome, PutError, Queued};
use crate::watch::health::disk;

use super::Intake;
use super::guests::{Guests, Turn};
use super::operator::{drop_mail, mute, retarget, retry};

/// Longest request line in bytes: an event with a full message fits.
const LINE_LIMIT: u64 = 256 * 1024;

/// Largest content that `submit` reads, in bytes. A service takes no more than its `max-message-size`.
pub const CONTENT_LIMIT: usize = 64 << 20;

/// Clients that wait for SIGNL4 at once, beside those; the next ones are told that it is queued.
const WAITING: usize = 256;

/// How long a client may wait, in seconds.
const LONGEST_WAIT: u64 = 3_600;

/// How long a client may take to say what it wants: it is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Who may do what.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Whether everybody on the machine may connect.
    open: bool,
}

impl Access {
    /// The rights that the config gives.
    pub fn new(control: &Control) -> Self {
        Self { open: control.mode & 0o002 != 0 }
    }

    /// Whether the user `peer`, who has connected, may look into the queue and change it. The kernel lets only those
    /// connect whom the mode and the group let in; where that is everybody, only root and the service's `own` user may.
    fn is_operator(self, peer: u32, own: u32) -> bool {
        !self.open || peer == 0 || peer == own
    }
}

/// Opens the socket; one left by a service that died is replaced. The spool's lock has already
/// shown that no other service runs.
///
/// # Errors
/// The folder is missing or may not be written.
pub fn bind(control: &Control) -> io::Result<UnixListener> {
    let path = &control.socket;
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there already")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // It gets its mode and its group in a folder that is closed to others: there is no moment in which they could
    // connect.
    let mut folder = path.as_os_str().to_owned();
    folder.push(".new");
    let folder = PathBuf::from(folder);
    let fresh = folder.join("s");
    // What a service left that died at this point.
    let _ = fs::remove_file(&fresh);
    let _ = fs::remove_dir(&folder);
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let listener = UnixListener::bind(&fresh)?;
    if let Some(group) = control.group {
        chown(&fresh, None, Some(group)).map_err(|error| {
            let hint = "the service must be a member of it (SupplementaryGroups= in its unit)";
            io::Error::new(error.kind(), format!("cannot give it to group {group}: {error}; {hint}"))
        })?;
    }
    fs::set_permissions(&fresh, fs::Permissions::from_mode(control.mode))?;
    fs::rename(&fresh, path)?;
    fs::remove_dir(&folder)?;
    Ok(listener)
}

/// Serves clients until `stop` turns true. A mail may have `limit` bytes.
pub async fn serve(
    listener: UnixListener,
    access: Access,
    intake: Arc<Intake>,
    limit: usize,
    mut stop: watch::Receiver<bool>,
) {
    let guests = Guests::default();
    let waiting = Arc::new(Semaphore::new(WAITING));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "the control socket cannot accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
            () = async { _ = stop.wait_for(|stop| *stop).await; } => return,
        };
        let (intake, waiting, guests) = (Arc::clone(&intake), Arc::clone(&waiting), guests.clone());
        tokio::spawn(async move {
            if let Err(error) = receive(stream, access, &guests, &intake, &waiting, limit).await {
                debug!(%error, "a control client went away");
            }
        });
    }
}

/// Serves a client when it is his turn, if his user has not too many there already.
async fn receive(
    mut stream: UnixStream,
    access: Access,
    guests: &Guests,
    intake: &Arc<Intake>,
    waiting: &Arc<Semaphore>,
    limit: usize,
) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let Some(guest) = guests.admit(peer) else {
        let reply = Reply::Temporary("too many connections of this user; try again".to_owned());
        return tokio::time::timeout(PATIENCE, reply_to(&mut stream, &reply)).await?;
    };
    let turn = guest.turn().await;
    let operator = access.is_operator(peer, rustix::process::geteuid().as_raw());
    converse(stream, operator, intake, turn, waiting, limit).await
}

async fn converse(
    stream: UnixStream,
    operator: bool,
    intake: &Arc<Intake>,
    turn: Turn,
    waiting: &Arc<Semaphore>,
    limit: usize,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let reply = match tokio::time::timeout(PATIENCE, read_request(&mut stream, limit)).await?? {
        Ok((request, _)) if !operator && !matches!(request, Request::Submit { .. }) => Reply::Refused(
            "only root and the service's own user may send, close, acknowledge, mute, and look into the queue or change \
             it, as `[control] mode` lets everybody connect"
                .to_owned(),
        ),
        Ok((request, content)) => answer(request, content, intake, turn, waiting).await,
        Err(problem) => Reply::Refused(problem),
    };
    reply_to(stream.get_mut(), &reply).await
}

async fn reply_to(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn read_request(
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

async fn answer(
    request: Request,
    content: Bytes,
    intake: &Arc<Intake>,
    turn: Turn,
    waiting: &Arc<Semaphore>,
) -> Reply {
    match request {
        Request::Submit { mut envelope, .. } => {
            own(&mut envelope, intake, Origin::Submit);
            match intake.take(Mail { envelope, content }).await {
                Ok(kept) => Reply::Queued { id: kept.id },
                Err(problem) => not_kept(&problem),
            }
        }
        Request::Send { mut envelope, event, wait } => {
            own(&mut envelope, intake, Origin::Command);
            if !intake.context().teams.has(&event.team) {
                return Reply::Refused("the service has no such team".to_owned());
            }
            let kept = match intake.take_event(envelope, *event).await {
                Ok(kept) => kept,
                Err(problem) => return not_kept(&problem),
            };
            let Some(event) = kept.events.first() else { return not_sent(intake, kept.id).await };
            let Some(seconds) = wait else { return Reply::Queued { id: kept.id } };
            // Who waits for SIGNL4 keeps nobody else from the service.
            drop(turn);
            match waiting.try_acquire() {
                Ok(_waits) => wait_for(intake, kept.id, event, seconds.min(LONGEST_WAIT)).await,
                Err(_) => Reply::Waiting {
                    id: kept.id,
                    reason: "too many wait already; it stays queued".to_owned(),
                },
            }
        }
        Request::Retry { id, rejudge } => {
            let done = retry(intake, id, rejudge).await;
            if let Reply::Changed { events } = done {
                info!(id = %id.map_or_else(|| "all".to_owned(), |id| id.to_string()), events, rejudge, "an operator retries");
            }
            done
        }
        Request::Retarget { id, team } => retarget(intake, id, &team).await,
        Request::Status => status(intake).await,
        Request::Drop { id } => drop_mail(intake, id).await,
        Request::Mute { .. } | Request::EndMute { .. } => mute(intake, request).await,
    }
}

/// Writes over what a client must not say of itself: when, from where and how its mail came.
fn own(envelope: &mut Envelope, intake: &Intake, origin: Origin) {
    envelope.received_at = intake.context().now();
    envelope.origin = origin;
    envelope.client = Client::default();
}

/// The answer for an event that is kept and not sent.
pub async fn not_sent(intake: &Intake, id: MailId) -> Reply {
    let shown = intake.context().spool.reader().show(id).await.ok().flatten();
    let event = shown.and_then(|shown| shown.events.into_iter().next());
    let reason = event.and_then(|event| event.listed.reason);
    Reply::Kept { id, reason: reason.unwrap_or_else(|| "`queue show` tells why".to_owned()) }
}

fn not_kept(problem: &PutError) -> Reply {
    Reply::Temporary(format!("the spool could not take it: {problem}"))
}

async fn wait_for(intake: &Arc<Intake>, id: MailId, event: &Queued, seconds: u64) -> Reply {
    let Some(delivery) = &intake.context().delivery else { return Reply::Queued { id } };
    match tokio::time::timeout(Duration::from_secs(seconds), delivery.wait(event.seq)).await {
        Ok(Some(Outcome::Delivered { event_id, .. })) => Reply::Delivered { id, event_id },
        Ok(Some(Outcome::Failed { reason, .. } | Outcome::Deferred { reason, .. })) => {
            Reply::Waiting { id, reason }
        }
        // It is no longer queued, or the service stops.
        Ok(None) => match intake.context().spool.reader().find(event.seq).await {
            Ok(Some(listed)) if listed.state != spool::State::Queued => not_sent(intake, id).await,
            _ => Reply::Waiting { id, reason: "the service stops; it stays queued".to_owned() },
        },
        Err(_) => Reply::Waiting { id, reason: format!("not delivered within {seconds} s; it stays queued") },
    }
}

async fn status(intake: &Intake) -> Reply {
    let disk = intake.context().spool.stalled().map(disk::told);
    let Some(delivery) = &intake.context().delivery else { return Reply::Status { teams: Vec::new(), disk } };
    let one = |status: delivery::Status| {
        let state = match status.state {
            State::Held => "held",
            State::Throttled => "throttled",
            State::Down => "not reached",
            State::Starved => "starved",
            State::Unknown => "not in the config",
            State::Untried => "not tried",
            State::Open if status.reason.is_empty() => "open",
            State::Open => "waits",
        };
        let (since, until) = status.starved.map(|starved| (starved.since, starved.until)).unzip();
        TeamStatus { team: status.team, state: state.to_owned(), reason: status.reason, since, until }
    };
    Reply::Status { teams: delivery.status().await.into_iter().map(one).collect(), disk }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn whom_the_mode_lets_in_may_change_the_queue_unless_it_lets_in_everybody() {
        let access = |mode| Access::new(&Control { mode, ..Control::at("c".into()) });
        let (root, service, member) = (0, 990, 1000);
        for mode in [0o600, 0o660] {
            assert!([root, service, member].iter().all(|&peer| access(mode).is_operator(peer, service)));
        }
        assert!([root, service].iter().all(|&peer| access(0o666).is_operator(peer, service)));
        assert!(!access(0o666).is_operator(member, service));
    }

    #[tokio::test]
    async fn the_socket_has_its_mode_and_its_group_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control");
        let group = fs::metadata(folder.path()).unwrap().gid();
        for mode in [0o600, 0o660, 0o666] {
            let control = Control { mode, group: Some(group), ..Control::at(socket.clone()) };
            drop(bind(&control).unwrap());
            let made = fs::symlink_metadata(&socket).unwrap();
            assert_eq!((made.mode() & 0o777, made.gid()), (mode, group));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "precious").unwrap();
        assert!(bind(&Control::at(socket.clone())).is_err());
        assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    }
}
