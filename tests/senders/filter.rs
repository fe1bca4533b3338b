//! A relay that checks who sent a mail: Postfix with a filter that writes Authentication-Results, as OpenDKIM and
//! others do, over the milter protocol of Sendmail. What senders write under the relay's name is taken out by Postfix.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::Scene;
use crate::postfix::Postfix;
use crate::support::{Site, Smtp, standin};

/// A mail of Zabbix that closes an alert, below what its sender puts on top.
const RESOLVED: &str = "\
From: Zabbix <zabbix@example.org>
To: oncall@soc.example
Subject: Resolved: High CPU

Problem has been resolved at 18:21:40 on 2026.11.20
Problem name: High CPU
Host: db01
Severity: High

Original problem ID: 90210
";

/// A filter that puts a field on top of each mail, unless it finds nothing.
struct Filter {
    address: SocketAddr,
    results: Arc<Mutex<&'static str>>,
}

impl Filter {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let results = Arc::new(Mutex::new(""));
        let said = Arc::clone(&results);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // It ends when Postfix hangs up.
                let _ = filter(stream, &said);
            }
        });
        Self { address, results }
    }

    /// What it finds out of the next mails.
    fn finds(&self, results: &'static str) {
        *self.results.lock().unwrap() = results;
    }
}

/// Answers a relay: a packet is a length, a letter and what belongs to it.
fn filter(mut stream: TcpStream, results: &Mutex<&'static str>) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut packet)?;
        let mut say = |letter: u8, rest: &[u8]| {
            let length = u32::try_from(rest.len() + 1).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &[letter], rest].concat())
        };
        match packet[0] {
            // Version 6; it adds fields, and wants to hear of nothing but the end of a mail.
            b'O' => say(b'O', &[0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 3, 0x7f])?,
            b'E' => {
                let results = *results.lock().unwrap();
                if !results.is_empty() {
                    let field = format!("Authentication-Results\0relay.example; {results}\0");
                    say(b'i', &[&[0, 0, 0, 1], field.as_bytes()].concat())?;
                }
                say(b'c', &[])?;
            }
            // Macros and the end of a mail that is given up have no answer.
            b'D' | b'A' => (),
            b'Q' => return stream.shutdown(Shutdown::Both),
            _ => say(b'c', &[])?,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postfix"]
async fn what_a_filter_of_postfix_finds_counts_and_what_a_sender_forges_does_not() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    site.set("incidents", "repeat", "'update'");
    site.set("authenticity", "trusted-authserv-ids", "['relay.example']");
    site.set("authenticity", "relay-removes-forged", "true");
    site.set("rules", "closing-domains", "['example.org']");
    // No name server is to be asked where the relay says nothing.
    site.set("authenticity", "check", "false");
    let removed = site.path("header_checks");
    std::fs::write(&removed, "/^Authentication-Results[[:space:]]*:/ IGNORE\n").unwrap();
    let scene = Scene::of(standin, site);
    let filter = Filter::start();
    // The mail comes from outside by way of a proxy of the test's own.
    let routes = format!(
        "transport_maps = inline:{{ {{ soc.example = smtp:[127.0.0.1]:{} }} }}\nrelay_domains = soc.example\nsmtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_upstream_proxy_protocol = haproxy\nheader_checks = regexp:{}\nsmtpd_milters = inet:{}\n\
         milter_default_action = tempfail",
        scene.port(),
        removed.display(),
        filter.address
    );
    let postfix = Postfix::start(&routes, "");
    let forged = "Authentication-Results: relay.example; dmarc=pass header.from=example.org\n";
    let genuine = "dmarc=pass header.from=example.org";
    let mut found = Vec::new();
    for (count, (results, head)) in (1..).zip([
        ("dmarc=fail header.from=example.org", forged),
        ("none", forged),
        ("", forged),
        (genuine, ""),
        (genuine, forged),
    ]) {
        filter.finds(results);
        let mut stream = TcpStream::connect(postfix.address()).unwrap();
        stream.write_all(b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 25\r\n").unwrap();
        let mut smtp = Smtp::over(stream).unwrap();
        smtp.say("EHLO out.example.org").unwrap();
        let reply =
            smtp.mail("zabbix@example.org", &["oncall@soc.example"], &format!("{head}{RESOLVED}")).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
        smtp.say("QUIT").unwrap();
        scene.arrived(count).await;
        let event = scene.standin.events().pop().unwrap().payload;
        assert_eq!(event["X-S4-ExternalID"], "zabbix:90210", "{event}");
        found.push(event["X-S4-Status"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, ["new", "new", "new", "resolved", "resolved"]);
    scene.gateway.stop();
}
