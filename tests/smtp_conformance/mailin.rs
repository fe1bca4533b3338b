//! mailin-embedded behind the same sessions.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mailin_embedded::{Handler, Response, Server, response};

use super::script::Taken;

/// What mailin-embedded calls for each connection.
#[derive(Clone)]
struct Mailin {
    taken: Sender<Taken>,
    mail: Taken,
}

impl Handler for Mailin {
    fn rcpt(&mut self, to: &str) -> Response {
        if to.starts_with("nobody") { response::NO_MAILBOX } else { response::OK }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        self.mail = Taken { from: from.to_owned(), to: to.to_vec(), ..Taken::default() };
        response::OK
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mail.content.extend_from_slice(bytes);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        if self.mail.from.starts_with("full@") {
            return response::OUT_OF_SPACE;
        }
        if self.mail.from.starts_with("down@") {
            return response::INTERNAL_ERROR;
        }
        // The test may be over with this file, if mailin took longer than it had.
        let _ = self.taken.send(self.mail.clone());
        response::OK
    }
}

/// A server of mailin-embedded, which cannot be stopped and ends with the process.
pub fn start() -> (SocketAddr, Receiver<Taken>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (taken, mails) = mpsc::channel();
    let mut server = Server::new(Mailin { taken, mail: Taken::default() });
    server.with_num_threads(1).with_tcp_listener(listener);
    thread::spawn(move || drop(server.serve()));
    (address, mails)
}
