//! Trouble is told: dead letters to a team, an outage by mail and to systemd, and what is wrong with the way
//! to SIGNL4 to an operator who asks, who pages nobody by that.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::Output;
use std::sync::{Arc, mpsc};

use serde_json::Value;
use smtp2signl4::mail::trace::NOTICE;
use smtp2signl4::standin::{Fault, Options, Request, Standin};
use support::{Gateway, PATIENCE, Process, SECRET, Site, Smtp};

/// A site with the teams `soc` and `ops`, whose secrets are `soc-secret` and `ops-secret`.
async fn two_teams() -> (Standin, Site) {
    let secrets = vec!["soc-secret".to_owned(), "ops-secret".to_owned()];
    let standin = Standin::start(Options { secrets, ..Options::default() }).await.unwrap();
    let mut site = Site::new(&standin);
    site.unset("signl4", "secret-file");
    for team in ["soc", "ops"] {
        std::fs::write(site.path(team), format!("{team}-secret")).unwrap();
        site.append(&format!("[[team]]\nname = '{team}'\nsecret-file = '{team}'\nrecipients = ['{team}']\n"));
    }
    (standin, site)
}

fn send(gateway: &Gateway, subject: &str, to: &str) -> String {
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    let reply = smtp.mail("tool@example.org", &[to], &format!("Subject: {subject}\n\nText.\n")).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    reply.rsplit(' ').next().unwrap().to_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn run(site: &Site, arguments: &[&str]) -> Output {
    site.command(arguments).stdin(std::process::Stdio::null()).output().unwrap()
}

fn is_notice(request: &Request) -> bool {
    request.payload["X-S4-ExternalID"] == "smtp2signl4:dead-letter"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_told_to_the_team_for_that_and_a_notice_that_fails_is_not() {
    let (standin, mut site) = two_teams().await;
    site.set("notices", "team", "'ops'");
    // The mail's event and the notice are both refused.
    standin.script([Fault::Status(422), Fault::Status(422)]);
    let gateway = site.start();
    let id = send(&gateway, "confidential", "soc@x");
    tokio::time::timeout(PATIENCE, standin.wait_for(|requests| requests.len() == 2)).await.unwrap();
    let requests = standin.requests();
    assert!(is_notice(&requests[1]), "{}", requests[1].payload);
    assert_eq!(requests[1].secret, "ops-secret");
    let payload = &requests[1].payload;
    assert_eq!(payload["Title"], "1 event failed for good");
    assert_eq!(payload["X-S4-SourceSystem"], "smtp2signl4");
    let message = payload["Message"].as_str().unwrap();
    for part in [&id, "soc", "422 Unprocessable Entity", "queue list --state failed"] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    assert!(!message.contains("confidential"), "another team's title: {message}");
    gateway.process().wait_for("that the notice failed", |line| {
        (line.contains("failed for good") && line.contains("\"team\":\"ops\"")).then_some(())
    });
    gateway.stop();

    // The next start looks back: it tells of the mail again, as nobody was told, and never of the notice.
    let gateway = site.start();
    let told = standin.wait_for(|requests| requests.len() == 3);
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    let requests = standin.requests();
    assert!(is_notice(&requests[2]));
    assert_eq!(requests[2].payload["Title"], "1 event failed for good");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_up_the_notices_and_names_what_needs_a_restart() {
    let (standin, mut site) = two_teams().await;
    let gateway = site.start();
    site.set("notices", "team", "'ops'");
    site.set("delivery", "timeout", "'7s'");
    site.append("[[expect]]\nname = 'backup'\nwhen = { subject = 'x' }\nwithin = '26h'\n");
    site.config();
    gateway.signal("HUP");
    for setting in ["[delivery] timeout", "[[expect]]"] {
        gateway.process().wait_for("that names what needs a restart", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["setting"] == setting).then_some(())
        });
    }
    standin.script([Fault::Status(422)]);
    send(&gateway, "refused", "soc@x");
    tokio::time::timeout(PATIENCE, standin.wait_for(|requests| requests.iter().any(is_notice)))
        .await
        .unwrap();
    let log = gateway.stop().join("\n");
    assert!(!log.contains("[notices]"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_to_another_team_beside_a_service_and_without_one() {
    let (standin, site) = two_teams().await;
    standin.set_secrets(vec!["ops-secret".to_owned()]);
    let gateway = site.start();
    let (one, two) = (send(&gateway, "one", "soc@x"), send(&gateway, "two", "soc@x"));
    tokio::time::timeout(PATIENCE, standin.wait_for(|requests| !requests.is_empty())).await.unwrap();
    let unknown = run(&site, &["queue", "retry", &one, "--to", "nobody"]);
    assert_eq!(unknown.status.code(), Some(65));
    assert!(out(&unknown).contains("there is no team `nobody`"), "{}", out(&unknown));
    let moved = run(&site, &["queue", "retry", &one, "--to", "ops"]);
    assert_eq!(out(&moved), "1 event to be posted to team ops\n");
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!((events[0].secret.as_str(), &events[0].payload["Title"]), ("ops-secret", &Value::from("one")));
    gateway.stop();

    let unknown = run(&site, &["queue", "retry", &two, "--to", "nobody"]);
    assert_eq!(unknown.status.code(), Some(65), "{}", out(&unknown));
    let moved = run(&site, &["queue", "retry", &two, "--to", "ops"]);
    assert_eq!(out(&moved), "1 event to be posted to team ops\n");
    let gateway = site.start();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    assert_eq!((events[1].secret.as_str(), &events[1].payload["Title"]), ("ops-secret", &Value::from("two")));
    gateway.stop();
}

/// A mail that a smarthost took.
#[derive(Debug)]
struct Mail {
    from: String,
    to: Vec<String>,
    content: String,
}

/// A smarthost on loopback, with TLS from the first byte and a password if it is given a certificate. The mails
/// and logins that it takes come out of the channels.
struct Smarthost {
    address: SocketAddr,
    mails: mpsc::Receiver<Mail>,
    logins: mpsc::Receiver<String>,
}

impl Smarthost {
    fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((tell, mails), (tell_login, logins)) = (mpsc::channel(), mpsc::channel());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // A client that goes away in the middle ends its session and nothing else.
                let _ = match &tls {
                    None => serve(stream, false, &tell, &tell_login),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), true, &tell, &tell_login)
                    }
                };
            }
        });
        Self { address, mails, logins }
    }
}

fn serve<S: Read + Write>(
    stream: S,
    login: bool,
    tell: &mpsc::Sender<Mail>,
    tell_login: &mpsc::Sender<String>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let say = |stream: &mut BufReader<S>, reply: &str| {
        stream.get_mut().write_all(format!("{reply}\r\n").as_bytes())?;
        stream.get_mut().flush()
    };
    say(&mut stream, "220 smarthost.example")?;
    let mut mail = Mail { from: String::new(), to: Vec::new(), content: String::new() };
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let command = line.trim_end();
        let reply = match command.split([' ', ':']).next().unwrap() {
            "EHLO" if login => "250-smarthost.example\r\n250 AUTH PLAIN",
            "EHLO" => "250 smarthost.example",
            "AUTH" => {
                tell_login.send(command.to_owned()).unwrap();
                "235 2.7.0 welcome"
            }
            "MAIL" => {
                mail.from = command.to_owned();
                "250 2.1.0 ok"
            }
            "RCPT" => {
                mail.to.push(command.to_owned());
                "250 2.1.5 ok"
            }
            "DATA" => {
                say(&mut stream, "354 go on")?;
                while !mail.content.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut mail.content)?;
                }
                // Long header fields are folded.
                mail.content = mail.content.replace("\r\n ", " ");
                let taken = std::mem::replace(
                    &mut mail,
                    Mail { from: String::new(), to: Vec::new(), content: String::new() },
                );
                tell.send(taken).unwrap();
                "250 2.0.0 queued"
            }
            "QUIT" => return say(&mut stream, "221 2.0.0 bye"),
            _ => "250 2.0.0 ok",
        };
        say(&mut stream, reply)?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_by_mail_and_to_systemd_once_and_so_is_its_end() {
    let standin = support::standin().await;
    let mut site = Site::new(&standin);
    let smarthost = Smarthost::start(None);
    site.set("smtp", "hostname", "'gw1.example.org'");
    site.set("notices", "after", "'1s'");
    site.append(&format!(
        "[notices.mail]\nsmarthost = '{}'\ntls = 'off'\nfrom = 'gw@example.org'\nto = ['ops@example.org']\n",
        smarthost.address
    ));
    let socket = site.path("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let wait_for = |wanted: &str| {
        let mut datagram = [0; 4096];
        loop {
            let length = systemd.recv(&mut datagram).unwrap();
            let state = String::from_utf8_lossy(&datagram[..length]).into_owned();
            if state.contains(wanted) {
                return state;
            }
        }
    };
    standin.refuse().await.unwrap();
    let mut command = site.command(&["run"]);
    command.env("NOTIFY_SOCKET", &socket);
    let process = Process::spawn(command, "");
    let address: SocketAddr = process.wait_for("address", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["address"].as_str().filter(|_| line["message"] == "listening")?.parse().ok()
    });
    let mut smtp = Smtp::connect(address).unwrap();
    smtp.say("EHLO x").unwrap();
    smtp.mail("tool@example.org", &["soc@x"], "Subject: confidential\n\nText.\n").unwrap();

    let status = wait_for("waiting for default");
    assert!(status.starts_with("STATUS=1 waiting for default since "), "{status}");
    assert!(status.ends_with(": cannot be reached"), "{status}");
    let mail = smarthost.mails.recv_timeout(PATIENCE).unwrap();
    assert_eq!((mail.from.as_str(), mail.to.len()), ("MAIL FROM:<>", 1));
    assert!(mail.content.contains(&format!("{NOTICE}: gw1.example.org\r\n")), "{}", mail.content);
    assert!(mail.content.contains("Auto-Submitted: auto-generated\r\n"));
    assert!(mail.content.contains("SIGNL4 gets no events from gw1.example.org since "), "{}", mail.content);
    for hidden in ["confidential", SECRET] {
        assert!(!mail.content.contains(hidden), "{}", mail.content);
    }

    standin.listen().await.unwrap();
    tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    wait_for("events go out as they come");
    let mail = smarthost.mails.recv_timeout(PATIENCE).unwrap();
    assert!(
        mail.content.contains("SIGNL4 gets events from gw1.example.org again"),
        "once, and then that it is over: {}",
        mail.content
    );
    drop(process);
}

/// A certificate for `localhost` and what serves it.
fn certificate() -> (String, Arc<rustls::ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    (made.cert.pem(), Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_tries_the_way_and_the_secrets_and_pages_nobody() {
    let (standin, mut site) = two_teams().await;
    site.set("signl4", "proxy", "false");
    site.set("signl4", "url", format!("'http://localhost:{}/webhook/'", standin.address().port()));
    let (pem, tls) = certificate();
    let smarthost = Smarthost::start(Some(tls));
    std::fs::write(site.path("ca.pem"), pem).unwrap();
    std::fs::write(site.path("password"), "pass word\n").unwrap();
    site.append(&format!(
        "[notices.mail]\nsmarthost = 'localhost:{}'\ntls = 'implicit'\nca-file = 'ca.pem'\nusername = 'gw'\n\
         password-file = 'password'\nfrom = 'gw@example.org'\nto = ['ops@example.org']\n",
        smarthost.address.port()
    ));
    let checked = run(&site, &["check", "--online"]);
    let text = out(&checked);
    assert_eq!(checked.status.code(), Some(0), "{text}");
    for part in [
        "the name of SIGNL4: localhost is ",
        "a connection to 127.0.0.1:",
        "team soc\n  ok      the secret",
        "team ops\n  ok      the secret",
        "it greets, encrypts and lets us in",
        "not proven\n",
        "that somebody is on duty",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    for event in standin.requests() {
        assert_eq!(event.payload["X-S4-Status"], "resolved", "nothing that could page: {}", event.payload);
        assert_eq!(event.payload["X-S4-ExternalID"], "smtp2signl4:probe");
    }
    // RFC 4616: the user and the password between NULs, "\0gw\0pass word".
    assert_eq!(smarthost.logins.recv_timeout(PATIENCE).unwrap(), "AUTH PLAIN AGd3AHBhc3Mgd29yZA==");
    assert!(smarthost.mails.try_recv().is_err(), "no mail is sent");

    standin.set_secrets(vec!["ops-secret".to_owned()]);
    let wrong = run(&site, &["check", "--online"]);
    let text = out(&wrong);
    assert_eq!(wrong.status.code(), Some(78), "{text}");
    assert!(text.contains("team soc\n  FAILED  the secret or the URL is refused: answered 404"), "{text}");
    assert!(!text.contains("soc-secret") && !text.contains("pass word"), "{text}");

    standin.refuse().await.unwrap();
    let unreachable = run(&site, &["check", "--online"]);
    let text = out(&unreachable);
    assert_eq!(unreachable.status.code(), Some(69), "{text}");
    assert!(text.contains("FAILED  no connection to localhost:"), "{text}");
}
