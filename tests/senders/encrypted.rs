//! Real clients at entrances that ask for more: TLS, a login, a proxy or a relay that names the client, and
//! LMTP. Each is set up as the README says, and what arrives is what the same mail makes in clear.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::Scene;
use crate::support::tls::Authority;
use crate::support::{Site, free_port, run, standin};

/// A user, and the hash of `open sesame` at the least cost there is.
const USERS: &str =
    "alice:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$hB+3w+XCqbeX/gTIqKvDd3rvONixo8T2Dgv6KiwCGcs\n";

/// The mail that everybody sends, and the event that it makes.
const BODY: &str = "/var is at 99 %\n.\nand rising\n";
const EVENT: &str = "curl";

/// A gateway with one more entrance, on 127.0.0.1 if the settings do not say where.
pub struct Entrance {
    pub scene: Scene,
    pub port: String,
    folder: PathBuf,
}

impl Entrance {
    /// One with these settings.
    pub async fn with(settings: &str) -> Self {
        let standin = standin().await;
        let mut site = Site::new(&standin);
        let folder = site.path("");
        let authority = Authority::new("authority of a test");
        let pair = authority.sign_for(&["localhost", "127.0.0.1"]);
        fs::write(site.path("ca.pem"), authority.pem()).unwrap();
        fs::write(site.path("certificate.pem"), pair.certificate).unwrap();
        fs::write(site.path("key.pem"), pair.key).unwrap();
        fs::write(site.path("users"), USERS).unwrap();
        let port = free_port();
        let address = if settings.contains("address") {
            String::new()
        } else {
            format!("address = '127.0.0.1:{port}'\n")
        };
        site.set("smtp", "users", "'users'");
        site.append(&format!(
            "[[smtp.certificate]]\ncertificate = 'certificate.pem'\nkey = 'key.pem'\n[[smtp.listener]]\n{address}{}\n",
            settings.replace("HERE", folder.to_str().unwrap())
        ));
        Self { scene: Scene::of(standin, site), port: port.to_string(), folder }
    }

    /// The path of a file that it has.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Waits until the one mail has arrived.
    async fn has_it(self) {
        self.scene.ends_with(1, EVENT).await;
    }

    fn swaks(&self, arguments: &[&str]) -> String {
        let mut swaks = Command::new("swaks");
        swaks.args([
            "--from",
            "you@example.org",
            "--to",
            "soc@example.org",
            "--h-Subject",
            "Disk full on db01",
        ]);
        swaks.args(["--body", BODY, "--tls-verify", "--tls-ca-path", &self.path("ca.pem")]);
        swaks.args(arguments);
        run(swaks, "")
    }

    fn curl(&self, arguments: &[&str]) {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--max-time",
            "30",
            "--mail-from",
            "you@example.org",
            "--mail-rcpt",
            "soc@example.org",
        ]);
        curl.args(["-T", "-", "--cacert", &self.path("ca.pem")]).args(arguments);
        run(curl, &format!("Subject: Disk full on db01\n\n{BODY}"));
    }

    fn python(&self, arguments: &[&str]) {
        let mut python = Command::new("python3");
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/senders/encrypted.py"));
        python.args([&self.path("ca.pem"), BODY]).args(arguments);
        run(python, "");
    }
}

const STARTTLS: &str = "tls = 'starttls'\nrequire-tls = true";
const IMPLICIT: &str = "tls = 'implicit'";
const LOGIN: &str = "tls = 'starttls'\nrequire-tls = true\nrequire-auth = true";
const IMPLICIT_LOGIN: &str = "tls = 'implicit'\nrequire-auth = true";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs swaks"]
async fn swaks_logs_in_by_plain_within_starttls() {
    let entrance = Entrance::with(LOGIN).await;
    let server = ["--server", "localhost", "--port", &entrance.port, "--tls"];
    entrance.swaks(&[&server[..], &["--auth", "PLAIN", "-au", "alice", "-ap", "open sesame"]].concat());
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs swaks"]
async fn swaks_logs_in_by_login_within_implicit_tls() {
    let entrance = Entrance::with(IMPLICIT_LOGIN).await;
    let server = ["--server", "localhost", "--port", &entrance.port, "--tls-on-connect"];
    entrance.swaks(&[&server[..], &["--auth", "LOGIN", "-au", "alice", "-ap", "open sesame"]].concat());
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs swaks"]
async fn swaks_speaks_lmtp_over_a_unix_socket() {
    let entrance = Entrance::with("address = 'unix:HERE/lmtp'\nprotocol = 'lmtp'").await;
    entrance.swaks(&["--protocol", "LMTP", "--socket", &entrance.path("lmtp")]);
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs swaks"]
async fn swaks_comes_by_a_proxy() {
    for version in ["1", "2"] {
        let entrance = Entrance::with("proxies = ['127.0.0.0/8']\nallow = ['192.0.2.0/24']").await;
        let header =
            ["--proxy-version", version, "--proxy-family", if version == "1" { "TCP4" } else { "AF_INET" }];
        let client = ["--proxy-source", "192.0.2.9", "--proxy-source-port", "5000"];
        let server =
            ["--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25", "--server", "127.0.0.1", "--port"];
        entrance.swaks(&[&header[..], &client, &server, &[&entrance.port]].concat());
        entrance.has_it().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs swaks"]
async fn swaks_names_the_client_as_a_relay_does() {
    let entrance = Entrance::with("xclient = ['127.0.0.0/8']").await;
    let client = ["--xclient-addr", "192.0.2.9", "--xclient-helo", "mon.example"];
    let transcript =
        entrance.swaks(&[&client[..], &["--server", "127.0.0.1", "--port", &entrance.port]].concat());
    assert!(transcript.contains("XCLIENT "), "{transcript}");
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl"]
async fn curl_demands_starttls() {
    let entrance = Entrance::with(STARTTLS).await;
    entrance.curl(&["--ssl-reqd", &format!("smtp://localhost:{}", entrance.port)]);
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl"]
async fn curl_logs_in_within_implicit_tls() {
    let entrance = Entrance::with(IMPLICIT_LOGIN).await;
    entrance.curl(&["--user", "alice:open sesame", &format!("smtps://localhost:{}", entrance.port)]);
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn python_logs_in_within_starttls() {
    let entrance = Entrance::with(LOGIN).await;
    entrance.python(&["starttls", &entrance.port]);
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn python_logs_in_within_implicit_tls() {
    let entrance = Entrance::with(IMPLICIT_LOGIN).await;
    entrance.python(&["implicit", &entrance.port]);
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn python_speaks_lmtp_over_a_unix_socket() {
    let entrance = Entrance::with("address = 'unix:HERE/lmtp'\nprotocol = 'lmtp'").await;
    entrance.python(&["lmtp", &entrance.path("lmtp")]);
    entrance.has_it().await;
}

/// The responder of Cortex that mails cases logs in as `user` with `pwd` unless it is told otherwise, and
/// fails where it cannot.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn the_cortex_mailer_may_log_in_with_the_credentials_that_it_comes_with() {
    let entrance = Entrance::with("accept-any-login = ['127.0.0.0/8']").await;
    entrance.python(&["cortex", &entrance.port]);
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs msmtp"]
async fn msmtp_logs_in_within_starttls() {
    let entrance = Entrance::with(LOGIN).await;
    let config = format!(
        "account default\nhost localhost\nport {}\nfrom you@example.org\ntls on\ntls_starttls on\ntls_trust_file {}\n\
         auth on\nuser alice\npassword \"open sesame\"\n",
        entrance.port,
        entrance.path("ca.pem")
    );
    fs::write(entrance.path("msmtprc"), config).unwrap();
    fs::set_permissions(entrance.path("msmtprc"), Permissions::from_mode(0o600)).unwrap();
    let mut msmtp = Command::new("msmtp");
    msmtp.args(["-C", &entrance.path("msmtprc"), "soc@example.org"]);
    run(msmtp, &format!("From: you@example.org\nSubject: Disk full on db01\n\n{BODY}"));
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nodemailer"]
async fn nodemailer_logs_in_within_starttls_and_within_implicit_tls() {
    for (settings, secure) in [(LOGIN, "false"), (IMPLICIT_LOGIN, "true")] {
        let entrance = Entrance::with(settings).await;
        let mut node = Command::new("node");
        // Debian has its modules there.
        node.env("NODE_PATH", "/usr/share/nodejs");
        node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/senders/nodemailer.js"));
        node.args([&entrance.port, secure, &entrance.path("ca.pem"), BODY]);
        run(node, "");
        entrance.has_it().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go"]
async fn go_logs_in_within_starttls() {
    let entrance = Entrance::with(LOGIN).await;
    let mut go = Command::new("go");
    go.env("SSL_CERT_FILE", entrance.path("ca.pem")).env("GO111MODULE", "off").env("GOFLAGS", "");
    go.args(["run", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/senders/send.go"), &entrance.port, BODY]);
    run(go, "");
    entrance.has_it().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sslscan"]
async fn sslscan_finds_no_weak_protocol_and_no_weak_cipher() {
    for (settings, options) in [(STARTTLS, &["--starttls-smtp"][..]), (IMPLICIT, &[])] {
        let entrance = Entrance::with(settings).await;
        let mut scan = Command::new("sslscan");
        scan.args(["--no-colour", "--sni-name=localhost"]).args(options);
        scan.arg(format!("127.0.0.1:{}", entrance.port));
        let found = run(scan, "");
        for old in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
            assert!(found.contains(&format!("{old:<9} disabled")), "{old}:\n{found}");
        }
        for new in ["TLSv1.2", "TLSv1.3"] {
            assert!(found.contains(&format!("{new:<9} enabled")), "{new}:\n{found}");
        }
        let ciphers: Vec<_> = found
            .lines()
            .filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"))
            .collect();
        assert!(ciphers.len() >= 4, "{found}");
        for cipher in ciphers {
            let strong = cipher.contains("GCM") || cipher.contains("CHACHA20");
            assert!(strong && !cipher.contains("NULL") && !cipher.contains("ADH"), "{cipher}");
        }
    }
}
