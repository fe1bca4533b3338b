//! TLS and AUTH at the listener, over real sockets and with real certificates.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use base64ct::{Base64, Encoding};
use rustls::ClientConfig;
use smtp2signl4::clock::System;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::document;
use smtp2signl4::mail::{Client, Mail, MailId};
use smtp2signl4::smtp::tls::Facts;
use smtp2signl4::smtp::{Accept, Config, Credentials, Listener, Refusal, users};
use support::tls::{Authority, Encrypted, Pair, handshake, presented};
use support::{PATIENCE, Smtp};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

const HOST: &str = "mx.example";
const MAIL: (&str, &[&str], &str) = ("a@b.example", &["soc@b.example"], "Subject: x\n\nx\n");

/// Tells who handed over each mail.
struct Taker(Sender<Client>);

impl Accept for Taker {
    fn recipient(&self, _: &str) -> bool {
        true
    }

    async fn accept(&self, mail: Mail) -> Result<MailId, Refusal> {
        self.0.send(mail.envelope.client).unwrap();
        Ok(MailId::new(mail.envelope.received_at, 0))
    }
}

/// An edge with certificates of an authority of its own: `a` for [`HOST`] and `b` for `*.other.example`.
struct Edge {
    folder: TempDir,
    authority: Authority,
    addresses: Vec<SocketAddr>,
    credentials: Arc<Credentials>,
    mails: Receiver<Client>,
    _stop: DropGuard,
    _runtime: Runtime,
}

impl Edge {
    /// One with these lines of `[smtp]` behind its certificates.
    fn start(lines: &str) -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("Test CA"));
        authority.sign(HOST).write(folder.path(), "a");
        authority.sign("*.other.example").write(folder.path(), "b");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(folder.path().join("users"), users::line("hive", "s3cret").unwrap()).unwrap();
        let text = format!(
            "{lines}\n[[certificate]]\ncertificate = 'a.pem'\nkey = 'a.key'\n[[certificate]]\ncertificate = 'b.pem'\nkey = 'b.key'\n"
        );
        let source = Source::new(folder.path().join("c.toml").display().to_string(), text);
        let config = document::read(&source, Config::read).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (taken, mails) = mpsc::channel();
        let stop = CancellationToken::new();
        let within = runtime.enter();
        let listener = Listener::bind(&config).unwrap();
        drop(within);
        let (addresses, credentials) = (listener.addresses(), Arc::clone(listener.credentials()));
        runtime.spawn(listener.run(Arc::new(Taker(taken)), Arc::new(System), stop.clone()));
        Self { folder, authority, addresses, credentials, mails, _stop: stop.drop_guard(), _runtime: runtime }
    }

    fn starttls(lines: &str) -> Self {
        Self::start(&format!("{lines}\n[[listener]]\naddress = '127.0.0.1:0'\ntls = 'starttls'"))
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.authority.client(None)
    }

    fn plain(&self) -> Smtp {
        Smtp::connect(self.addresses[0]).unwrap()
    }

    fn encrypted(&self) -> Smtp<Encrypted> {
        self.plain().starttls(&self.client(), HOST).unwrap()
    }

    fn taken(&self) -> Client {
        self.mails.recv_timeout(PATIENCE).unwrap()
    }
}

fn mail<S: Read + Write>(smtp: &mut Smtp<S>) -> String {
    smtp.mail(MAIL.0, MAIL.1, MAIL.2).unwrap()
}

fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", Base64::encode_string(format!("\0{name}\0{password}").as_bytes()))
}

#[test]
fn a_mail_comes_over_starttls_and_over_tls_from_the_first_byte() {
    let edge = Edge::start(
        "[[listener]]\naddress = '127.0.0.1:0'\ntls = 'starttls'\n[[listener]]\naddress = '127.0.0.1:0'\ntls = 'implicit'",
    );
    let stream = TcpStream::connect(edge.addresses[1]).unwrap();
    let implicit = Smtp::over(handshake(stream, &edge.client(), HOST).unwrap()).unwrap();
    for mut smtp in [edge.encrypted(), implicit] {
        let offered = smtp.say("EHLO hive").unwrap();
        assert!(offered.contains("SIZE") && !offered.contains("STARTTLS"), "{offered}");
        assert!(mail(&mut smtp).starts_with("250 2.0.0 queued as "));
        let tls = edge.taken().tls.unwrap();
        assert_eq!((&*tls.version, &tls.subject), ("TLSv1.3", &None));
        assert!(tls.cipher.starts_with("TLS_"), "{}", tls.cipher);
        assert!(smtp.say("QUIT").unwrap().starts_with("221 "));
        // With close_notify: without, rustls would say that the end may be an attacker's.
        assert!(smtp.is_closed());
    }
}

#[test]
fn a_proxy_names_its_client_before_the_handshake() {
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\nproxies = ['127.0.0.1']";
    let edge = Edge::start(&format!("{listener}\ntls = 'implicit'\n{listener}\ntls = 'starttls'"));
    let named = |at: usize| {
        let mut stream = TcpStream::connect(edge.addresses[at]).unwrap();
        stream.write_all(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 465\r\n").unwrap();
        stream
    };
    let implicit = Smtp::over(handshake(named(0), &edge.client(), HOST).unwrap()).unwrap();
    let starttls = Smtp::over(named(1)).unwrap().starttls(&edge.client(), HOST).unwrap();
    for mut smtp in [implicit, starttls] {
        assert!(mail(&mut smtp).starts_with("250 "));
        let client = edge.taken();
        assert_eq!(client.address, Some("198.51.100.7".parse().unwrap()));
        assert_eq!(client.relay, Some("127.0.0.1".parse().unwrap()));
        assert!(client.tls.is_some());
    }
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_is_asked_for_or_the_first() {
    let edge = Edge::starttls("");
    for (asked, names) in [(HOST, HOST), ("mx.other.example", "*.other.example")] {
        let mut smtp = edge.plain().starttls(&edge.client(), asked).unwrap();
        assert_eq!(Facts::of(presented(smtp.stream())).unwrap().names, [names]);
    }
    // The client gives up, because it is not for that name; that it came so far shows which one it was given.
    let error = edge.plain().starttls(&edge.client(), "elsewhere.example").err().unwrap();
    assert!(error.to_string().contains("mx.example"), "{error}");
}

#[test]
fn what_is_put_in_front_of_the_handshake_is_never_obeyed() {
    let edge = Edge::starttls("");
    // In one go, as it would be injected.
    let mut smtp = edge.plain();
    smtp.write(b"STARTTLS\r\nMAIL FROM:<evil>\r\nRCPT TO:<evil>\r\n").unwrap();
    let refused = smtp.reply().unwrap();
    assert!(refused.starts_with("554 5.5.0 "), "{refused}");
    assert!(smtp.is_closed());

    // Behind the reply it is taken for the handshake, which it is not.
    let mut smtp = edge.plain();
    assert!(smtp.say("STARTTLS").unwrap().starts_with("220 "));
    smtp.write(b"NOOP\r\nMAIL FROM:<evil>\r\n").unwrap();
    let answer = smtp.reply().unwrap_or_default();
    assert!(!answer.starts_with("250"), "{answer}");

    // What a client said itself before is forgotten as well.
    let mut smtp = edge.plain();
    assert!(smtp.say("EHLO evil").unwrap().contains("STARTTLS"));
    assert!(smtp.say("MAIL FROM:<evil>").unwrap().starts_with("250 "));
    let mut smtp = smtp.starttls(&edge.client(), HOST).unwrap();
    assert!(smtp.say("RCPT TO:<evil>").unwrap().starts_with("503 "));
    assert!(mail(&mut smtp).starts_with("250 "));
    assert_eq!(edge.taken().helo, "");
}

#[test]
fn a_client_certificate_is_verified_where_one_is_shown() {
    let edge = Edge::start(
        "client-ca = 'ca.pem'\n[[listener]]\naddress = '127.0.0.1:0'\ntls = 'starttls'\nrequire-auth = true",
    );
    let own = edge.authority.sign("hive.example");
    let connect = |pair: Option<&Pair>| edge.plain().starttls(&edge.authority.client(pair), HOST);

    let mut known = connect(Some(&own)).unwrap();
    assert!(mail(&mut known).starts_with("250 "));
    let client = edge.taken();
    assert_eq!(client.tls.unwrap().subject.as_deref(), Some("CN=hive.example"));
    assert_eq!(client.user, None);

    let mut without = connect(None).unwrap();
    assert_eq!(mail(&mut without), "530 5.7.0 authentication required");

    let stranger = Authority::new("Another CA").sign("hive.example");
    // With TLS 1.3 the client learns of it only when it reads.
    let refused = connect(Some(&stranger)).and_then(|mut smtp| smtp.say("NOOP"));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_client_may_speak_either_version_of_tls_that_is_safe() {
    let edge = Edge::starttls("");
    for (version, name) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
        let client = edge.authority.client_of(&[version], None);
        let mut smtp = edge.plain().starttls(&client, HOST).unwrap();
        assert!(mail(&mut smtp).starts_with("250 "));
        assert_eq!(edge.taken().tls.unwrap().version, name);
    }
}

#[test]
fn a_renewed_certificate_is_presented_from_then_on_and_ends_no_session() {
    let edge = Edge::starttls("");
    let mut old = edge.encrypted();
    let before = presented(old.stream()).clone();
    edge.authority.sign(HOST).write(edge.folder.path(), "a");
    edge.credentials.look();
    let mut new = edge.encrypted();
    assert_ne!(presented(new.stream()), &before);
    assert!(mail(&mut old).starts_with("250 "));
    assert!(mail(&mut new).starts_with("250 "));

    // Half a renewal changes nothing.
    let now = presented(new.stream()).clone();
    std::fs::write(edge.folder.path().join("a.key"), edge.authority.sign(HOST).key).unwrap();
    edge.credentials.look();
    assert_eq!(presented(edge.encrypted().stream()), &now);
}

#[test]
fn a_connection_cannot_be_resumed() {
    let edge = Edge::starttls("");
    let client = edge.client();
    for _ in 0..2 {
        let mut smtp = edge.plain().starttls(&client, HOST).unwrap();
        smtp.say("NOOP").unwrap();
        assert_eq!(smtp.stream().conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn a_user_logs_in_under_tls_and_stands_in_the_envelope() {
    let edge = Edge::starttls("users = 'users'");
    let mut unsafe_yet = edge.plain();
    assert!(!unsafe_yet.say("EHLO a").unwrap().contains("AUTH"));
    assert!(unsafe_yet.say(&plain("hive", "s3cret")).unwrap().starts_with("538 5.7.11 "));

    let mut smtp = edge.encrypted();
    assert!(smtp.say("EHLO a").unwrap().ends_with("250 AUTH PLAIN LOGIN"));
    assert_eq!(smtp.say("AUTH LOGIN").unwrap(), "334 VXNlcm5hbWU6");
    assert_eq!(smtp.say("aGl2ZQ==").unwrap(), "334 UGFzc3dvcmQ6");
    assert!(smtp.say("czNjcmV0").unwrap().starts_with("235 2.7.0 "));
    assert!(mail(&mut smtp).starts_with("250 "));
    assert_eq!(edge.taken().user.as_deref(), Some("hive"));

    let mut wrong = edge.encrypted();
    assert_eq!(wrong.say(&plain("hive", "guess")).unwrap(), "535 5.7.8 authentication failed");
    assert!(mail(&mut wrong).starts_with("250 "));
    assert_eq!(edge.taken().user, None);
}

#[test]
fn a_new_password_counts_when_the_file_changed() {
    let edge = Edge::starttls("users = 'users'");
    assert!(edge.encrypted().say(&plain("hive", "s3cret")).unwrap().starts_with("235 "));
    let file = edge.folder.path().join("users");
    std::fs::write(&file, "not a line of a user").unwrap();
    edge.credentials.look();
    assert!(edge.encrypted().say(&plain("hive", "s3cret")).unwrap().starts_with("235 "));
    std::fs::write(&file, users::line("hive", "another").unwrap()).unwrap();
    edge.credentials.look();
    assert!(edge.encrypted().say(&plain("hive", "another")).unwrap().starts_with("235 "));
    assert!(edge.encrypted().say(&plain("hive", "s3cret")).unwrap().starts_with("535 "));
}

#[test]
fn a_sender_that_cannot_do_without_auth_gets_in_from_a_network_that_may_say_anything() {
    let edge = Edge::start("[[listener]]\naddress = '127.0.0.1:0'\naccept-any-login = ['127.0.0.0/8']");
    let mut smtp = edge.plain();
    assert!(smtp.say("EHLO a").unwrap().ends_with("250 AUTH PLAIN LOGIN"));
    assert!(smtp.say(&plain("user", "pwd")).unwrap().starts_with("235 "));
    assert!(mail(&mut smtp).starts_with("250 "));
    assert_eq!(edge.taken().user, None);
}

#[test]
fn a_client_that_speaks_plainly_to_a_port_of_tls_is_closed() {
    let edge = Edge::start("[[listener]]\naddress = '127.0.0.1:0'\ntls = 'implicit'");
    let mut stream = TcpStream::connect(edge.addresses[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"EHLO a\r\nMAIL FROM:<a>\r\n").unwrap();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => (),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    // At most an alert.
    assert!(said.len() <= 7 && !said.starts_with(b"2"), "{said:?}");
}
