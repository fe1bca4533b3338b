//! Clients that only wait and clients that send a byte now and then take nothing from those that send mails. How
//! fast mails are under it, and how it is with thousands, is measured by `cargo bench --bench edge`.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::net::SocketAddr;

use support::{PATIENCE, Site, Smtp, standin};

/// Clients that wait, and clients that dribble; a process can usually have 1,024 sockets.
const IDLE: usize = 400;
const DRIBBLING: usize = 100;

/// Mails that flow meanwhile.
const MAILS: usize = 100;

/// What the program may use at its peak: its rules and its spool take most of that already.
const MEMORY_LIMIT: u64 = 100 << 20;

/// A client at one of the places where it can stop.
fn idle(address: SocketAddr, at: usize) -> Smtp {
    let mut smtp = Smtp::connect(address).unwrap();
    let steps = ["EHLO idle.example", "MAIL FROM:<a@idle.example>", "RCPT TO:<soc@site.example>"];
    for step in &steps[..at % (steps.len() + 1)] {
        assert!(smtp.say(step).unwrap().starts_with("250"));
    }
    smtp
}

/// A client whose message is to come byte by byte.
fn dribbling(address: SocketAddr) -> Smtp {
    let mut smtp = Smtp::connect(address).unwrap();
    for (step, code) in
        [("MAIL FROM:<slow@idle.example>", "250"), ("RCPT TO:<soc@site.example>", "250"), ("DATA", "354")]
    {
        assert!(smtp.say(step).unwrap().starts_with(code));
    }
    smtp
}

#[tokio::test]
async fn mails_flow_past_clients_that_wait_and_clients_that_dribble() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    // Each mail is to be an event, also where there are many and they are alike.
    site.set("incidents", "storm", "false");
    site.set("incidents", "repeat", "'update'");
    let gateway = site.start();
    let address = gateway.address();
    let mut idle: Vec<Smtp> = (0..IDLE).map(|at| idle(address, at)).collect();
    let mut dribbling: Vec<Smtp> = (0..DRIBBLING).map(|_| dribbling(address)).collect();

    let mut message = b"Subject: slow\r\n\r\n".iter().copied().chain(std::iter::repeat(b'.'));
    for number in 0..MAILS {
        let byte = message.next().unwrap();
        for slow in &mut dribbling {
            slow.write(&[byte]).unwrap();
        }
        let mut smtp = Smtp::connect(address).unwrap();
        let mail = format!("Subject: Disk {number} is full\n\nSee to it.\n");
        let reply = smtp.mail("disk@site.example", &["soc@site.example"], &mail).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let all = standin.wait_for_events(MAILS as u64);
    tokio::time::timeout(PATIENCE, all).await.expect("an event for each mail");

    for slow in &mut dribbling {
        slow.write(b"\r\n.\r\n").unwrap();
        assert!(slow.reply().unwrap().starts_with("250 "), "who dribbles may come to an end");
    }
    for waiting in &mut idle {
        assert_eq!(waiting.say("NOOP").unwrap(), "250 2.0.0 OK");
    }
    let all = standin.wait_for_events((MAILS + DRIBBLING) as u64);
    tokio::time::timeout(PATIENCE, all).await.expect("an event for each mail that dribbled");
    let peak = gateway.process().peak_memory();
    println!("peak of memory: {} MiB", peak >> 20);
    assert!(peak < MEMORY_LIMIT, "{} MiB", peak >> 20);
    gateway.stop();
}
