//! The listener behind the sessions.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use rustls::ClientConfig;
use smtp2signl4::clock::System;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::document;
use smtp2signl4::mail::{Client, Mail, MailId};
use smtp2signl4::smtp::{Accept, Config, Listener, Refusal};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::over::Over;
use super::script::{Script, Taken};
use super::support::tls::Authority;

/// `alice`, whose password is `open sesame`, hashed at the least cost there is.
const USERS: &str =
    "alice:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$hB+3w+XCqbeX/gTIqKvDd3rvONixo8T2Dgv6KiwCGcs\n";

/// What the listeners need: certificates and users, in a folder that goes with this.
pub struct Site {
    folder: tempfile::TempDir,
    pub client: Arc<ClientConfig>,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("authority of the sessions");
        let pair = authority.sign("mx.example");
        fs::write(folder.path().join("certificate.pem"), pair.certificate).unwrap();
        fs::write(folder.path().join("key.pem"), pair.key).unwrap();
        fs::write(folder.path().join("users"), USERS).unwrap();
        Self { folder, client: authority.client(None) }
    }

    /// A listener for `script`, gone `over`; where it is and what it takes.
    pub fn listen(
        &self,
        script: &Script,
        over: Over,
        runtime: &Runtime,
        stop: CancellationToken,
    ) -> (SocketAddr, Receiver<Taken>) {
        let mut listener = over.listener().to_owned();
        listener += &script.listener;
        let certificate = if listener.contains("tls = \"") {
            "[[certificate]]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n"
        } else {
            ""
        };
        let config = format!(
            "hostname = \"mx.example\"\n{}[[listener]]\naddress = \"127.0.0.1:0\"\n{listener}{certificate}",
            script.config
        );
        let path = self.folder.path().join(format!("{}.toml", script.name));
        let config = document::read(&Source::new(path.to_str().unwrap(), config), Config::read)
            .unwrap_or_else(|problems| panic!("{}: {problems:?}", script.name));
        let (taken, mails) = mpsc::channel();
        let _within = runtime.enter();
        let listener = Listener::bind(&config).unwrap();
        let address = listener.addresses()[0];
        runtime.spawn(listener.run(Arc::new(Taker(taken)), Arc::new(System), stop));
        (address, mails)
    }
}

/// A gateway's edge that tells what it takes.
struct Taker(Sender<Taken>);

impl Accept for Taker {
    fn recipient(&self, address: &str) -> bool {
        !address.starts_with("nobody")
    }

    async fn accept(&self, mail: Mail) -> Result<MailId, Refusal> {
        let envelope = mail.envelope;
        if envelope.reverse_path.starts_with("full@") {
            return Err(Refusal::Full);
        }
        if envelope.reverse_path.starts_with("down@") {
            return Err(Refusal::Unavailable);
        }
        let taken = Taken {
            from: envelope.reverse_path,
            to: envelope.recipients,
            content: mail.content.to_vec(),
            client: Some(described(&envelope.client)),
        };
        self.0.send(taken).unwrap();
        Ok(MailId::new(envelope.received_at, 0))
    }
}

/// The client in words: `192.0.2.9 by 127.0.0.1 as mx.example, user alice`.
fn described(client: &Client) -> String {
    let mut words = client.address.map_or_else(|| "local".to_owned(), |address| address.to_string());
    if let Some(relay) = client.relay {
        words += &format!(" by {relay}");
    }
    if !client.helo.is_empty() {
        words += &format!(" as {}", client.helo);
    }
    if let Some(user) = &client.user {
        words += &format!(", user {user}");
    }
    words
}
