//! A stranger on a network of his own, against the real program: he closes, masks and delays nothing of others.
//!
//! The test runs itself again in a network namespace, so that the machine's own network is left alone. There the gateway
//! listens at 203.0.113.1, a relay inside comes from loopback, DNS is the test's own, and the stranger is in a second
//! namespace, at 203.0.113.9. 203.0.113.20 is his neighbour, whom the DNS lets send for example.org.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use smtp2signl4::standin::Standin;
use support::{Gateway, PATIENCE, Process, Site, Smtp, run, standin};

/// Set inside of the namespaces: what this run of the test is.
const ROLE: &str = "SMTP2SIGNL4_TEST_ROLE";

/// Where the gateway is for those outside.
const PUBLIC: &str = "203.0.113.1:2525";

/// What the DNS of the test says.
const ZONE: [(&str, &str); 2] =
    [("example.org", "v=spf1 ip4:203.0.113.20 -all"), ("_dmarc.example.org", "v=DMARC1; p=none")];

/// This test in new namespaces, by way of `command`.
fn again(mut command: Command, name: &str, role: &str) -> Command {
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--include-ignored", "--nocapture"]).env(ROLE, role);
    command
}

fn ip(arguments: &str) {
    let mut ip = Command::new("ip");
    ip.args(arguments.split(' '));
    run(ip, "");
}

#[test]
#[ignore = "needs root, iproute2 and network namespaces"]
fn a_stranger_closes_masks_and_delays_nothing_of_others() {
    match std::env::var(ROLE).as_deref() {
        Err(_) => {
            let mut unshare = Command::new("unshare");
            unshare.args(["--net", "--mount", "--"]);
            run(again(unshare, "a_stranger_closes_masks_and_delays_nothing_of_others", "site"), "");
        }
        Ok("site") => site(),
        Ok(_) => outside(),
    }
}

/// The stranger, or his neighbour: says to the gateway what he is told to, and prints the replies.
fn outside() {
    let from = std::env::var("SMTP2SIGNL4_TEST_FROM").unwrap();
    let mails: Vec<String> = serde_json::from_str(
        &std::fs::read_to_string(std::env::var("SMTP2SIGNL4_TEST_MAILS").unwrap()).unwrap(),
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(PUBLIC.parse().unwrap()).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Smtp::over(stream).unwrap();
    client.say("EHLO out.example.org").unwrap();
    for mail in mails {
        println!("\nreply: {}", client.mail("nagios@example.org", &["soc@site.example"], &mail).unwrap());
    }
}

/// The second namespace, whose hosts are outside.
struct Internet {
    /// Holds the namespace.
    sleeper: Process,
    folder: tempfile::TempDir,
}

impl Internet {
    fn new() -> Self {
        ip("link set lo up");
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--", "sh", "-c", "echo ready; exec sleep 600"]);
        let sleeper = Process::spawn(unshare, "");
        sleeper.wait_for("second namespace", |line| (line == "ready").then_some(()));
        let net = Self { sleeper, folder: tempfile::tempdir().unwrap() };
        ip(&format!("link add s4site type veth peer name s4out netns {}", net.sleeper.id()));
        ip("address add 203.0.113.1/24 dev s4site");
        ip("link set s4site up");
        for line in [
            "address add 203.0.113.9/24 dev s4out",
            "address add 203.0.113.20/24 dev s4out",
            "link set s4out up",
        ] {
            let mut enter = net.enter();
            enter.arg("ip").args(line.split(' '));
            run(enter, "");
        }
        net
    }

    fn enter(&self) -> Command {
        let mut enter = Command::new("nsenter");
        enter.args(["--net", "--target", &self.sleeper.id().to_string(), "--"]);
        enter
    }

    /// Sends these mails from this address, and returns the reply to each.
    fn send(&self, from: &str, mails: &[String]) -> Vec<String> {
        let path = self.folder.path().join("mails");
        std::fs::write(&path, serde_json::to_string(mails).unwrap()).unwrap();
        let mut command =
            again(self.enter(), "a_stranger_closes_masks_and_delays_nothing_of_others", "outside");
        command.env("SMTP2SIGNL4_TEST_FROM", from).env("SMTP2SIGNL4_TEST_MAILS", path);
        run(command, "").lines().filter_map(|line| line.strip_prefix("reply: ")).map(str::to_owned).collect()
    }
}

/// Answers questions for TXT by [`ZONE`], and that there is nothing else.
fn serve_dns() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        loop {
            let (length, client) = socket.recv_from(&mut packet).unwrap();
            let question = &packet[12..length];
            let mut labels = Vec::new();
            let mut at = 0;
            while question[at] != 0 {
                let length = usize::from(question[at]);
                labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
                at += length + 1;
            }
            let end = at + 5;
            let text = ZONE.iter().find(|(name, _)| *name == labels.join(".") && question[at + 2] == 16);
            let mut answer = packet[..2].to_vec();
            // An answer, with recursion; one question, one record or none; NXDOMAIN for a name that is not there.
            answer.extend([0x81, if text.is_some() || labels.is_empty() { 0x80 } else { 0x83 }]);
            answer.extend([0, 1, 0, u8::from(text.is_some()), 0, 0, 0, 0]);
            answer.extend(&question[..end]);
            if let Some((_, text)) = text {
                answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
                answer.extend((text.len() as u16 + 1).to_be_bytes());
                answer.push(text.len() as u8);
                answer.extend(text.bytes());
            }
            socket.send_to(&answer, client).unwrap();
        }
    });
}

/// A mail of Nagios about a host.
fn nagios(kind: &str, host: &str, state: &str) -> String {
    format!(
        "From: nagios@example.org\nTo: soc@site.example\nSubject: ** {kind} Host Alert: {host} is {state} **\n\
         Date: Fri, 20 Nov 2026 17:04:05 +0000\nMessage-ID: <{kind}.{host}.{}@example.org>\n\n\
         ***** Nagios *****\n\nNotification Type: {kind}\nHost: {host}\nState: {state}\nInfo: PING {state}\n",
        fastrand::u32(..)
    )
}

/// The statuses of the events about a host, as they were posted.
fn posted(standin: &Standin, host: &str) -> Vec<String> {
    let events = standin.events().into_iter().map(|event| event.payload);
    let about =
        events.filter(|payload| payload["X-S4-ExternalID"].as_str().is_some_and(|id| id.contains(host)));
    about.map(|payload| payload["X-S4-Status"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the events about a host are these.
fn wait_for(standin: &Standin, host: &str, statuses: &[&str]) {
    let start = Instant::now();
    while posted(standin, host) != statuses {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(60), "{host}: {:?}, not {statuses:?}", posted(standin, host));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn site() {
    let internet = Internet::new();
    serve_dns();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let standin = runtime.block_on(standin());
    let mut site = Site::new(&standin);
    std::fs::write(site.path("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let mut mount = Command::new("mount");
    mount.args(["--bind".as_ref(), site.path("resolv.conf").as_os_str(), "/etc/resolv.conf".as_ref()]);
    run(mount, "");
    site.set("signl4", "plan", "'free'");
    site.set("rules", "closing-domains", "['example.org']");
    site.append(&format!("[[smtp.listener]]\naddress = '{PUBLIC}'\n"));
    let gateway: Gateway = site.start();
    let inside = |mail: &str| {
        let mut relay = Smtp::connect(gateway.address()).unwrap();
        let reply = relay.mail("nagios@example.org", &["soc@site.example"], mail).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    };

    // He closes nothing, neither directly nor by way of the relay inside.
    inside(&nagios("PROBLEM", "db01", "DOWN"));
    wait_for(&standin, "db01", &["new"]);
    let recovery = nagios("RECOVERY", "db01", "UP");
    assert!(internet.send("203.0.113.9", std::slice::from_ref(&recovery))[0].starts_with("250"));
    inside(&format!(
        "Received: from out (out [203.0.113.9]) by relay; now\n{}",
        nagios("RECOVERY", "db01", "UP")
    ));
    // Who is proven does: it is the same mail, from an address that the DNS of its domain names.
    internet.send("203.0.113.20", &[recovery]);
    let start = Instant::now();
    while posted(&standin, "db01").last().map(String::as_str) != Some("resolved") {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", posted(&standin, "db01"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(posted(&standin, "db01").iter().filter(|status| *status == "resolved").count(), 1);

    // He masks nothing: what he opened before does not keep the first of ours from paging.
    internet.send("203.0.113.9", &[nagios("PROBLEM", "db02", "DOWN")]);
    wait_for(&standin, "db02", &["new"]);
    inside(&nagios("PROBLEM", "db02", "DOWN"));
    wait_for(&standin, "db02", &["new", "new"]);

    // He delays nothing, however much he sends: what is beyond his rate is told to come again, and what is within it
    // goes behind ours.
    let flood: Vec<String> = (0..300).map(|at| nagios("PROBLEM", &format!("fake{at}"), "DOWN")).collect();
    let replies = internet.send("203.0.113.9", &flood);
    assert!(replies.iter().filter(|reply| reply.starts_with("250")).count() < 100, "{replies:?}");
    assert!(replies.last().unwrap().starts_with("450"), "{replies:?}");
    let start = Instant::now();
    inside(&nagios("PROBLEM", "db03", "DOWN"));
    wait_for(&standin, "db03", &["new"]);
    // SIGNL4's limit of a free account for 15 s may be used up; then ours is the first that goes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    gateway.stop();
}
