//! The control socket: how `submit`, `send`, `close`, `queue` and `mute` talk to a running service.
//!
//! The mode and the group of the socket's file say who may connect. A user who may change the queue may also send, close
//! and acknowledge. Where every user may connect, the others may only hand in mail, as with sendmail(8): SO_PEERCRED
//! tells them apart. No user takes more than a part of the service.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::config::Control;
use crate::intake::Intake;
use crate::unix::Place;

use super::guests::Guests;
use super::perform::{Performed, perform};
use super::protocol::{Operator, Reply, Request, read_request, reply_to};

/// Clients that wait for SIGNL4 at once, beside those; the next ones are told that it is queued.
const WAITING: usize = 256;

/// How long a client may take to say what it wants: it is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

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

    /// Whether the user `peer`, who has connected, may look into the queue and change it. The kernel admits only
    /// users that the mode and the group allow; where that is every user, only root and the service's `own` user may.
    fn is_operator(self, peer: Operator, own: Operator) -> bool {
        !self.open || peer.uid == 0 || peer == own
    }
}

/// Where requests for a reload go, each with where the answer is awaited.
pub type Reloads = mpsc::Sender<oneshot::Sender<Reply>>;

/// What serves a client.
#[derive(Clone)]
struct Server {
    access: Access,
    intake: Arc<Intake>,
    reloads: Reloads,
    /// Most bytes of a mail.
    limit: usize,
    guests: Guests,
    waiting: Arc<Semaphore>,
}

/// Serves clients. A mail may have `limit` bytes.
pub async fn serve(
    (listener, _place): (UnixListener, Place),
    access: Access,
    intake: Arc<Intake>,
    reloads: Reloads,
    limit: usize,
) {
    let (guests, waiting) = (Guests::default(), Arc::new(Semaphore::new(WAITING)));
    let server = Server { access, intake, reloads, limit, guests, waiting };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let server = server.clone();
        tokio::spawn(async move {
            if let Err(error) = server.receive(stream).await {
                debug!(%error, "a control client went away");
            }
        });
    }
}

impl Server {
    /// Serves a client when it is his turn, if his user has not too many there already.
    async fn receive(&self, mut stream: UnixStream) -> io::Result<()> {
        let peer = Operator { uid: stream.peer_cred()?.uid() };
        let Some(guest) = self.guests.admit(peer.uid) else {
            let reply = Reply::Temporary("too many connections of this user; try again".to_owned());
            return tokio::time::timeout(PATIENCE, reply_to(&mut stream, &reply)).await?;
        };
        let turn = guest.turn().await;
        let operator = self.access.is_operator(peer, Operator::of_process());
        let mut stream = BufReader::new(stream);
        let reply = match tokio::time::timeout(PATIENCE, read_request(&mut stream, self.limit)).await?? {
            Ok((request, _)) if !operator && !matches!(request, Request::Submit { .. }) => Reply::Refused(
                "only root and the service's own user may send, close, acknowledge, mute, reload, and look into the queue \
                 or change it, as `[control] mode` lets everybody connect"
                    .to_owned(),
            ),
            Ok((Request::Reload, _)) => self.reload(peer).await,
            Ok((request, content)) => match perform(&self.intake, &request, content, &peer).await {
                Performed::Answered(reply) => reply,
                Performed::Awaited(awaited) => {
                    // A client that waits for SIGNL4 does not block others.
                    drop(turn);
                    match self.waiting.try_acquire() {
                        Ok(_waits) => Performed::Awaited(awaited).reply(self.intake.context()).await,
                        Err(_) => awaited.not_yet("too many wait already; it stays queued"),
                    }
                }
            },
            Err(problem) => Reply::Refused(problem),
        };
        reply_to(stream.get_mut(), &reply).await
    }

    /// Has the service reload, and waits for what comes of it.
    async fn reload(&self, operator: Operator) -> Reply {
        info!(operator = operator.name(), uid = operator.uid, request = "reload", "an operator asks");
        let (answer, reply) = oneshot::channel();
        let stops = || Reply::Temporary("the service is stopping".to_owned());
        match self.reloads.send(answer).await {
            Ok(()) => reply.await.unwrap_or_else(|_| stops()),
            Err(_) => stops(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_the_mode_lets_in_may_change_the_queue_unless_it_lets_in_everybody() {
        let access = |mode| Access::new(&Control { mode, ..Control::at("c".into()) });
        let [root, service, member] = [0, 990, 1000].map(|uid| Operator { uid });
        for mode in [0o600, 0o660] {
            assert!([root, service, member].iter().all(|&peer| access(mode).is_operator(peer, service)));
        }
        assert!([root, service].iter().all(|&peer| access(0o666).is_operator(peer, service)));
        assert!(!access(0o666).is_operator(member, service));
    }
}
