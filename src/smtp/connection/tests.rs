//! Connections over streams in memory, with a clock that stands still until everybody waits.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::Context;

use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Manual;
use crate::mail::{Mail, MailId};
use crate::smtp::Refusal;

/// Takes every mail, unless its reverse-path says otherwise.
#[derive(Default)]
struct Taker(Mutex<Vec<Mail>>);

impl Accept for Taker {
    fn recipient(&self, _: &str) -> bool {
        true
    }

    async fn accept(&self, mail: Mail) -> Result<MailId, Refusal> {
        match mail.envelope.reverse_path.as_str() {
            "panic" => panic!("as the test wants it"),
            "slow" => tokio::time::sleep(Duration::from_secs(7)).await,
            _ => (),
        }
        self.0.lock().unwrap().push(mail);
        Ok(MailId::from_number(0).unwrap())
    }
}

fn edge(change: impl FnOnce(&mut Config)) -> Arc<Edge<Taker>> {
    let mut config = Config { hostname: "mx".into(), ..Config::default() };
    change(&mut config);
    Arc::new(Edge {
        budget: Budget::new(config.max_memory, config.max_message_size),
        rates: Arc::new(Rates::new(config.rates.clone())),
        config: Arc::new(config),
        accept: Arc::new(Taker::default()),
        clock: Arc::new(Manual::new("2026-11-20T17:04:05Z".parse().unwrap())),
        credentials: Arc::default(),
        logins: Logins::default(),
    })
}

fn listener() -> Arc<ListenerConfig> {
    Arc::new(Config::default().listeners.remove(0))
}

/// A client of a session that runs beside the test.
struct Dialogue {
    edge: Arc<Edge<Taker>>,
    stream: DuplexStream,
    end: watch::Sender<Option<Instant>>,
    served: JoinHandle<()>,
    began: Instant,
}

impl Dialogue {
    fn start(edge: Arc<Edge<Taker>>) -> Self {
        Self::at(edge, listener())
    }

    fn at(edge: Arc<Edge<Taker>>, listener: Arc<ListenerConfig>) -> Self {
        let (stream, ours) = tokio::io::duplex(1024);
        let (end, ending) = watch::channel(None);
        let task = Arc::clone(&edge);
        let served =
            tokio::spawn(async move { serve(&task, &listener, ours, Client::default(), ending).await });
        Self { edge, stream, end, served, began: Instant::now() }
    }

    async fn says(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next reply line.
    async fn hears(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(line).unwrap()
    }

    /// Up to the prompt for data.
    async fn up_to_data(&mut self, sender: &str) {
        self.says(&format!("MAIL FROM:<{sender}>\r\nRCPT TO:<b>\r\nDATA\r\n")).await;
        while !self.hears().await.starts_with("354") {}
    }

    /// All that still comes until the connection is closed.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).await.unwrap();
        rest
    }

    fn passed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A stream that gives these bytes, a piece for a read, and remembers what one write each was.
struct Script {
    pieces: VecDeque<&'static str>,
    writes: Vec<String>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        into.put_slice(self.pieces.pop_front().unwrap_or_default().as_bytes());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.push(String::from_utf8(bytes.to_vec()).unwrap());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn each_reply_is_one_write_and_so_are_those_to_pipelined_commands() {
    let mut script = Script {
        pieces: ["EHLO x\r\n", "MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n", "x\r\n.", "\r\nQUIT\r\n"].into(),
        writes: Vec::new(),
    };
    let (_end, ending) = watch::channel(None);
    serve(&edge(|_| ()), &listener(), &mut script, Client::default(), ending).await;
    assert_eq!(
        script.writes,
        [
            "220 mx ESMTP smtp2signl4\r\n",
            "250-mx\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 BINARYMIME\r\n",
            "250 2.1.0 sender OK\r\n250 2.1.5 recipient OK\r\n354 end data with <CR><LF>.<CR><LF>\r\n",
            "250 2.0.0 queued as 000000000000\r\n221 2.0.0 goodbye\r\n",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_told_and_closed() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    assert_eq!(
        dialogue.rest().await,
        "220 mx ESMTP smtp2signl4\r\n421 4.4.2 timeout, closing connection\r\n"
    );
    assert_eq!(dialogue.passed(), Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dribbles_a_command_gains_no_time() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    dialogue.hears().await;
    for byte in "NOOP".bytes() {
        tokio::time::sleep(Duration::from_secs(60)).await;
        dialogue.stream.write_u8(byte).await.unwrap();
    }
    assert_eq!(dialogue.rest().await, "421 4.4.2 timeout, closing connection\r\n");
    assert_eq!(dialogue.passed(), Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_message_has_its_own_times() {
    let mut silent = Dialogue::start(edge(|_| ()));
    silent.up_to_data("a").await;
    silent.says("x\r\n").await;
    assert!(silent.rest().await.starts_with("421 4.4.2"));
    assert_eq!(silent.passed(), Duration::from_secs(180));

    let mut slow = Dialogue::start(edge(|_| ()));
    slow.up_to_data("a").await;
    let block = "x".repeat(BLOCK);
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(110)).await;
        slow.says(&block).await;
    }
    assert!(slow.rest().await.starts_with("421 4.4.2"));
    assert_eq!(slow.passed(), Duration::from_secs(900));
    assert!(slow.edge.accept.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dribbles_a_message_gains_no_time() {
    for start in ["DATA\r\n", "BDAT 9999\r\n", "BDAT 0\r\n"] {
        let mut dribbling = Dialogue::start(edge(|_| ()));
        dribbling.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\n").await;
        dribbling.says(start).await;
        dribbling.says(&"x".repeat(BLOCK + 1)).await;
        let began = Instant::now();
        for _ in 0..17 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            dribbling.says("x").await;
        }
        assert!(dribbling.rest().await.ends_with("421 4.4.2 timeout, closing connection\r\n"), "{start}");
        assert_eq!(began.elapsed(), Duration::from_secs(180), "{start}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_in_chunks_has_the_time_of_a_message() {
    let mut chatting = Dialogue::start(edge(|_| ()));
    let text = "x".repeat(BLOCK);
    chatting.says(&format!("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nBDAT {BLOCK}\r\n{text}")).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(110)).await;
        chatting.says(&format!("NOOP\r\nBDAT {BLOCK}\r\n{text}")).await;
    }
    assert!(chatting.rest().await.ends_with("421 4.4.2 timeout, closing connection\r\n"));
    assert_eq!(chatting.passed(), Duration::from_secs(900));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_only_keeps_its_seat_ends_and_one_that_works_does_not() {
    let mut idle = Dialogue::start(edge(|_| ()));
    let mut works = Dialogue::start(edge(|_| ()));
    works.hears().await;
    for minute in (4..30).step_by(4) {
        tokio::time::sleep(Duration::from_secs(240)).await;
        idle.says("NOOP\r\n").await;
        works.up_to_data("a").await;
        works.says(".\r\n").await;
        assert!(works.hears().await.starts_with("250"), "after {minute} minutes");
    }
    assert!(idle.rest().await.ends_with("250 2.0.0 OK\r\n421 4.4.2 timeout, closing connection\r\n"));
    assert_eq!(idle.passed(), Duration::from_secs(1800));
    works.says("NOOP\r\n").await;
    assert!(works.hears().await.starts_with("250"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_never_comes_within_a_mail() {
    let mut late = Dialogue::start(edge(|config| config.session_timeout = Duration::from_secs(60)));
    late.up_to_data("a").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    late.says(".\r\n").await;
    assert!(late.hears().await.starts_with("250"));
    // It worked, so it may go on.
    assert_eq!(late.rest().await, "421 4.4.2 timeout, closing connection\r\n");
    assert_eq!(late.passed(), Duration::from_secs(160));
}

#[tokio::test(start_paused = true)]
async fn when_the_service_ends_a_session_outside_data_is_closed_at_once() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    dialogue.says("MAIL FROM:<a>\r\nRCP").await;
    dialogue.hears().await;
    dialogue.hears().await;
    dialogue.end.send_replace(Some(Instant::now() + Duration::from_secs(10)));
    assert_eq!(dialogue.rest().await, "421 4.3.2 shutting down, try again later\r\n");
    assert_eq!(dialogue.passed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn when_the_service_ends_a_session_inside_data_may_finish() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    dialogue.up_to_data("slow").await;
    dialogue.end.send_replace(Some(Instant::now() + Duration::from_secs(10)));
    tokio::time::sleep(Duration::from_secs(9)).await;
    dialogue.says("x\r\n.\r\nMAIL FROM:<a>\r\n").await;
    // It was in hand already, so it is answered; then there is no waiting for more.
    assert_eq!(
        dialogue.rest().await,
        "250 2.0.0 queued as 000000000000\r\n250 2.1.0 sender OK\r\n421 4.3.2 shutting down, try again later\r\n"
    );
    assert_eq!(dialogue.passed(), Duration::from_secs(9 + 7));
    assert_eq!(dialogue.edge.accept.0.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_service_ends_a_message_that_does_not_end_is_given_up() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    dialogue.up_to_data("a").await;
    dialogue.end.send_replace(Some(Instant::now() + Duration::from_secs(10)));
    assert_eq!(dialogue.rest().await, "421 4.3.2 shutting down, try again later\r\n");
    assert_eq!(dialogue.passed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_answered_421_and_stays_in_its_session() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    dialogue.up_to_data("panic").await;
    dialogue.says(".\r\n").await;
    assert_eq!(dialogue.rest().await, "421 4.3.0 internal error, try again later\r\n");
    assert!(dialogue.served.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_without_reading_has_its_mail_taken() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    dialogue.up_to_data("a").await;
    dialogue.says("x\r\n.\r\nQUIT\r\n").await;
    drop(dialogue.stream);
    dialogue.served.await.unwrap();
    assert_eq!(dialogue.edge.accept.0.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_was_cut_off_is_not_taken() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    dialogue.up_to_data("a").await;
    dialogue.says("x\r\n.\r").await;
    drop(dialogue.stream);
    dialogue.served.await.unwrap();
    assert!(dialogue.edge.accept.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped() {
    let mut dialogue = Dialogue::start(edge(|_| ()));
    // More replies than the stream holds; then the session does not read either.
    while timeout(Duration::from_secs(1), dialogue.stream.write_all(b"EHLO x\r\n")).await.is_ok() {}
    dialogue.served.await.unwrap();
    assert_eq!(dialogue.began.elapsed(), Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_turned_out_can_read_why() {
    let mut dialogue = Dialogue::start(edge(|config| config.max_errors = 1));
    dialogue.says("X\r\n").await;
    dialogue.says(&"more\r\n".repeat(500)).await;
    assert!(dialogue.rest().await.ends_with("421 4.7.0 too many errors, closing connection\r\n"));
    // It goes on sending and never closes: that ends too.
    dialogue.served.await.unwrap();
    assert_eq!(dialogue.began.elapsed(), LINGER);
}

#[tokio::test(start_paused = true)]
async fn messages_wait_for_memory_and_are_refused_for_now_when_none_comes() {
    let edge = edge(|config| config.max_memory = 150 << 10);
    let body = "x".repeat(70 << 10);
    let mut first = Dialogue::start(Arc::clone(&edge));
    first.up_to_data("a").await;
    first.says(&body).await;
    let mut second = Dialogue::start(Arc::clone(&edge));
    second.up_to_data("b").await;
    second.says(&body).await;
    second.says("\r\n.\r\n").await;
    assert_eq!(second.hears().await, "452 4.3.1 no room for the mail now, try again later\r\n");

    second.up_to_data("b").await;
    first.says("\r\n.\r\n").await;
    assert!(first.hears().await.starts_with("250"));
    second.says(&body).await;
    second.says("\r\n.\r\n").await;
    assert!(second.hears().await.starts_with("250"));
}

#[tokio::test]
async fn a_client_that_waits_costs_little() {
    let (_client, stream) = tokio::io::duplex(64);
    let edge = edge(|_| ());
    let (_end, ending) = watch::channel(None);
    let listener = listener();
    let future = serve(&edge, &listener, stream, Client::default(), ending);
    assert!(size_of_val(&future) < 4096, "{} bytes", size_of_val(&future));
}

/// An edge whose certificate and users are made for the test, with the folder they lie in.
fn credible() -> (Arc<Edge<Taker>>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["mx".to_owned()]).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("c.pem", made.cert.pem());
    write("c.key", made.signing_key.serialize_pem());
    write("users", crate::smtp::users::line("hive", "right").unwrap());
    let text = "users = 'users'\n[[certificate]]\ncertificate = 'c.pem'\nkey = 'c.key'\n";
    let source = crate::diagnostic::Source::new(folder.path().join("c.toml").display().to_string(), text);
    let config = crate::document::read(&source, Config::read).unwrap();
    let mut edge = Arc::into_inner(edge(|_| ())).unwrap();
    edge.credentials = Arc::new(Credentials::load(&config).unwrap());
    (Arc::new(edge), folder)
}

fn entrance_with(change: impl FnOnce(&mut ListenerConfig)) -> Arc<ListenerConfig> {
    let mut listener = ListenerConfig::clone(&listener());
    change(&mut listener);
    Arc::new(listener)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_begins_no_handshake_is_closed() {
    let (edge, _folder) = credible();
    let starttls = entrance_with(|listener| listener.tls = TlsMode::Starttls);
    let mut asked = Dialogue::at(Arc::clone(&edge), starttls);
    asked.says("STARTTLS\r\n").await;
    assert!(asked.rest().await.ends_with("220 2.0.0 ready for TLS\r\n"));
    assert_eq!(asked.passed(), HANDSHAKE);

    let implicit = entrance_with(|listener| listener.tls = TlsMode::Implicit);
    let mut silent = Dialogue::at(edge, implicit);
    assert_eq!(silent.rest().await, "");
    assert_eq!(silent.passed(), HANDSHAKE);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_does_not_hold_up_the_end_of_the_service() {
    let (edge, _folder) = credible();
    let mut dialogue = Dialogue::at(edge, entrance_with(|listener| listener.tls = TlsMode::Implicit));
    dialogue.end.send_replace(Some(Instant::now() + Duration::from_secs(10)));
    assert_eq!(dialogue.rest().await, "");
    assert_eq!(dialogue.passed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_login_is_answered_later_each_time_and_a_right_one_at_once() {
    let (edge, _folder) = credible();
    let plain = entrance_with(|listener| {
        listener.auth = true;
        listener.auth_without_tls = true;
    });
    let mut dialogue = Dialogue::at(Arc::clone(&edge), Arc::clone(&plain));
    dialogue.hears().await;
    for seconds in [1, 2, 4, 8, 8] {
        let asked = Instant::now();
        dialogue.says("AUTH PLAIN AGhpdmUAd3Jvbmc=\r\n").await;
        assert_eq!(dialogue.hears().await, "535 5.7.8 authentication failed\r\n");
        assert_eq!(asked.elapsed(), Duration::from_secs(seconds));
    }
    let asked = Instant::now();
    dialogue.says("AUTH PLAIN AGhpdmUAcmlnaHQ=\r\n").await;
    assert_eq!(dialogue.hears().await, "235 2.7.0 authentication succeeded\r\n");
    assert_eq!(asked.elapsed(), Duration::ZERO);

    // A name that nobody has fails alike, and after too many failures the client goes.
    let mut guessing = Dialogue::at(edge, plain);
    guessing.hears().await;
    let mut said = String::new();
    while !said.starts_with("421") {
        guessing.says("AUTH PLAIN AG5vYm9keQB3cm9uZw==\r\n").await;
        said = guessing.hears().await;
        assert!(
            said.starts_with("535 5.7.8 ") || said.starts_with("421 4.7.0 too many failed logins"),
            "{said}"
        );
    }
}

/// Commands that are read at one go to the last octet, which ends a DATA that is refused.
fn one_read() -> String {
    let data = "NOOP xxx\r\nDATA\r\n";
    let commands = "NOOP\r\n".repeat((CHUNK - data.len()) / 6) + data;
    assert_eq!(commands.len(), CHUNK);
    commands
}

const MAIL: &str = "MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nx\r\n.\r\n";

#[tokio::test(start_paused = true)]
async fn what_the_next_read_brings_behind_a_refused_data_is_never_obeyed() {
    let edge = edge(|_| ());
    let (mut client, ours) = tokio::io::duplex(4 * CHUNK);
    client.write_all((one_read() + MAIL).as_bytes()).await.unwrap();
    let (_end, ending) = watch::channel(None);
    let listener = listener();
    let server = serve(&edge, &listener, ours, Client::default(), ending);
    let mut replies = String::new();
    let (_, read) = tokio::join!(server, client.read_to_string(&mut replies));
    read.unwrap();
    let last: Vec<_> = replies.lines().rev().take(2).map(|line| &line[..9]).collect();
    assert_eq!(last, ["421 4.7.0", "503 5.5.1"]);
    assert!(edge.accept.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hears_that_its_data_is_refused_may_go_on() {
    let edge = edge(|_| ());
    let (stream, ours) = tokio::io::duplex(4 * CHUNK);
    let (end, ending) = watch::channel(None);
    let task = Arc::clone(&edge);
    let served =
        tokio::spawn(async move { serve(&task, &listener(), ours, Client::default(), ending).await });
    let mut dialogue = Dialogue { edge, stream, end, served, began: Instant::now() };
    for commands in [one_read().as_str(), "DATA\r\n"] {
        dialogue.says(commands).await;
        while !dialogue.hears().await.starts_with("503 5.5.1") {}
    }
    dialogue.says(MAIL).await;
    dialogue.says("QUIT\r\n").await;
    assert!(dialogue.rest().await.contains("250 2.0.0 queued"));
    dialogue.served.await.unwrap();
    assert_eq!(dialogue.edge.accept.0.lock().unwrap().len(), 1);
}
