//! Postfix: relays to the gateway by a transport map or as its relayhost, pipes to `submit`, and keeps what
//! the gateway cannot take yet. Each test runs an instance of its own; the system's is left alone.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Scene;
use crate::encrypted::Entrance;
use crate::support::{PATIENCE, Process, Site, Smtp, free_port, program, run, standin};

/// A mail of Nagios.
pub const MAIL: &str = "\
Date: Fri, 20 Nov 2026 18:04:05 +0100
From: nagios@mon.example
To: oncall@soc.example
Message-Id: <20261120170405.7@mon.example>
Subject: ** PROBLEM Host Alert: db01 is DOWN **
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit

***** Nagios *****

Notification Type: PROBLEM
Host: db01
State: DOWN
Info: PING CRITICAL – keine Antwort aus Köln
";

/// A running Postfix.
pub struct Postfix {
    folder: TempDir,
    process: Process,
    address: SocketAddr,
}

impl Postfix {
    /// Starts one with these `routes` in its main.cf and these `services` in its master.cf.
    pub fn start(routes: &str, services: &str) -> Self {
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("postfix-").permissions(open).tempdir().unwrap();
        for name in ["etc", "queue", "data"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut chown = Command::new("chown");
        chown.arg("postfix").arg(folder.path().join("data"));
        run(chown, "");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let main = include_str!("postfix/main.cf")
            .replace("{folder}", folder.path().to_str().unwrap())
            .replace("{routes}", routes);
        let master = include_str!("postfix/master.cf")
            .replace("{port}", &address.port().to_string())
            .replace("{services}", services);
        fs::write(folder.path().join("etc/main.cf"), main).unwrap();
        fs::write(folder.path().join("etc/master.cf"), master).unwrap();

        let mut start = Command::new("postfix");
        start.arg("-c").arg(folder.path().join("etc")).arg("start-fg");
        let postfix = Self { process: Process::spawn(start, ""), folder, address };
        postfix.wait_for("daemon started");
        postfix
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn etc(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    /// Waits until its log has a line with `text`, and returns that line.
    fn wait_for(&self, text: &str) -> String {
        self.process.wait_for(text, |line| line.contains(text).then(|| line.to_owned()))
    }

    /// Hands it a mail by its sendmail(1).
    fn sendmail(&self, to: &str, mail: &str) {
        let mut sendmail = Command::new("sendmail");
        sendmail.arg("-C").arg(self.etc()).args(["-B8BITMIME", "-f", "nagios@mon.example", to]);
        run(sendmail, mail);
    }

    /// Waits until `count` events have come of what it had deferred. Its own rounds may pass by a mail that
    /// they find still busy, so it is told to try again, as an operator would.
    async fn deliver_deferred(&self, scene: &Scene, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while tokio::time::timeout(Duration::from_secs(1), scene.standin.wait_for_events(count))
            .await
            .is_err()
        {
            assert!(Instant::now() < deadline, "{} of {count} events arrived", scene.standin.taken());
            let mut flush = Command::new("postqueue");
            flush.arg("-c").arg(self.etc()).arg("-f");
            run(flush, "");
        }
    }

    /// Hands it a mail by SMTP.
    fn smtp(&self, to: &str, mail: &str) {
        let mut smtp = Smtp::connect(self.address).unwrap();
        smtp.say("EHLO mon.example").unwrap();
        let reply = smtp.mail("nagios@mon.example", &[to], mail).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
        smtp.say("QUIT").unwrap();
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Its daemons are no children of ours, so it ends them itself; the folder goes after that.
        let _ = Command::new("postfix").arg("-c").arg(self.etc()).arg("abort").output();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn postfix_relays_one_domain_by_a_transport_map() {
    let scene = Scene::set().await;
    let map = format!("transport_maps = inline:{{ {{ soc.example = smtp:[127.0.0.1]:{} }} }}", scene.port());
    let postfix = Postfix::start(&map, "");
    postfix.sendmail("oncall@soc.example", MAIL);
    let sent = postfix.wait_for("status=");
    assert!(sent.contains("status=sent (250 2.0.0 "), "{sent}");
    scene.ends_with(1, "postfix-relayed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn postfix_relays_one_domain_by_lmtp() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    site.unset("smtp", "listen");
    site.append("[[smtp.listener]]\naddress = '127.0.0.1:0'\nprotocol = 'lmtp'\n");
    let scene = Scene::of(standin, site);
    let map =
        format!("transport_maps = inline:{{ {{ soc.example = lmtp:inet:[127.0.0.1]:{} }} }}", scene.port());
    let postfix = Postfix::start(&map, "lmtp unix - - n - - lmtp");
    postfix.sendmail("oncall@soc.example", MAIL);
    let sent = postfix.wait_for("status=");
    assert!(sent.contains("status=sent (250 2.0.0 "), "{sent}");
    scene.ends_with(1, "postfix-relayed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn postfix_relays_everything_to_its_relayhost() {
    let scene = Scene::set().await;
    let postfix = Postfix::start(&format!("relayhost = [127.0.0.1]:{}", scene.port()), "");
    postfix.smtp("oncall@anywhere.example", MAIL);
    let sent = postfix.wait_for("status=");
    assert!(sent.contains("status=sent (250 2.0.0 "), "{sent}");
    scene.ends_with(1, "postfix-relayed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn postfix_relays_within_tls_and_checks_the_certificate() {
    let entrance = Entrance::with("tls = 'starttls'\nrequire-tls = true").await;
    let routes = format!(
        "relayhost = [localhost]:{}\nsmtp_host_lookup = native\nsmtp_tls_security_level = secure\n\
         smtp_tls_CAfile = {}\nsmtp_tls_secure_cert_match = localhost",
        entrance.port,
        entrance.path("ca.pem")
    );
    let postfix = Postfix::start(&routes, "");
    postfix.sendmail("oncall@soc.example", MAIL);
    let sent = postfix.wait_for("status=");
    assert!(sent.contains("status=sent (250 2.0.0 "), "{sent}");
    entrance.scene.ends_with(1, "postfix-relayed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn postfix_hands_over_by_lmtp() {
    let entrance = Entrance::with("address = 'unix:HERE/lmtp'\nprotocol = 'lmtp'\nmode = '0666'").await;
    let map =
        format!("transport_maps = inline:{{ {{ soc.example = lmtp:unix:{} }} }}", entrance.path("lmtp"));
    let lmtp = "lmtp unix - - n - - lmtp";
    let postfix = Postfix::start(&map, lmtp);
    postfix.sendmail("oncall@soc.example", MAIL);
    let sent = postfix.wait_for("status=");
    assert!(sent.contains("status=sent (250 2.0.0 "), "{sent}");
    entrance.scene.ends_with(1, "postfix-relayed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn postfix_keeps_what_comes_while_the_gateway_is_down() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    let port = free_port();
    site.set("smtp", "listen", format!("['127.0.0.1:{port}']"));
    let postfix = Postfix::start(&format!("relayhost = [127.0.0.1]:{port}"), "");
    postfix.smtp("oncall@soc.example", MAIL);
    postfix.wait_for("status=deferred");
    assert_eq!(standin.taken(), 0);

    let scene = Scene::of(standin, site);
    postfix.deliver_deferred(&scene, 1).await;
    postfix.wait_for("status=sent (250 2.0.0 ");
    scene.ends_with(1, "postfix-relayed").await;
}

/// The service that pipes to `submit`, as an unprivileged user who reaches no more than the control socket.
fn pipe(site: &Site) -> String {
    let copy = site.path("smtp2signl4");
    fs::copy(program(), &copy).unwrap();
    format!(
        "signl4 unix - n n - - pipe flags=R user=nobody argv={} submit --config {} -f ${{sender}} -- ${{recipient}}",
        copy.display(),
        site.config().display(),
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn postfix_pipes_to_submit_and_keeps_what_comes_while_the_gateway_is_down() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    site.set("control", "socket", "'control'");
    site.set("control", "mode", "'0666'");
    let map = "transport_maps = inline:{ { soc.example = signl4: } }";
    let postfix = Postfix::start(map, &pipe(&site));
    postfix.sendmail("oncall@soc.example", MAIL);
    postfix.wait_for("status=deferred");

    let scene = Scene::of(standin, site);
    postfix.deliver_deferred(&scene, 1).await;
    postfix.smtp("oncall@soc.example", &MAIL.replace("db01", "db02"));
    scene.ends_with(2, "postfix-piped").await;
}
