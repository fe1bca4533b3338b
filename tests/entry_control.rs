//! Whoever may not come in is told why, in a reply that says nothing about the inside, and the log tells who it
//! was and what he wanted.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use smtp2signl4::smtp::users;
use support::{Gateway, PATIENCE, Site, Smtp, standin};

/// Everything that a server says to a client that says nothing, until it closes the connection.
fn said_at_once(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// The field `field` of the log line with this message and reply, once it is written.
fn logged(gateway: &Gateway, message: &str, reply: &str, field: &str) -> String {
    gateway.process().wait_for(&format!("line `{message}`"), |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let about =
            line["message"] == message && line["reply"].as_str().is_none_or(|it| it.starts_with(reply));
        about.then(|| line[field].as_str().unwrap_or_else(|| panic!("{field} in {line}")).to_owned())
    })
}

#[tokio::test]
async fn a_client_of_another_network_reads_that_it_has_no_access() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    site.unset("smtp", "listen");
    site.append("[[smtp.listener]]\naddress = '127.0.0.1:0'\nallow = ['192.0.2.0/24', '::1']\n");
    let gateway = site.start();
    assert_eq!(said_at_once(gateway.address()), "554 5.7.1 no access from your address\r\n");
    assert_eq!(logged(&gateway, "connection refused", "554 5.7.1", "client"), "127.0.0.1");
    gateway.stop();
}

#[tokio::test]
async fn who_comes_too_often_or_too_much_at_a_time_is_told_to_come_again() {
    let standin = standin().await;
    for (section, key, value, refusal) in [
        ("smtp", "max-sessions", "1", "421 4.3.2 too many sessions, try again later\r\n"),
        ("smtp", "max-sessions-per-client", "1", "421 4.7.0 too many sessions from your address\r\n"),
        (
            "smtp.rates",
            "connections",
            "'1/d'",
            "421 4.7.0 too many connections from your address, try again later\r\n",
        ),
    ] {
        let mut site = Site::new(&standin);
        site.set("smtp.rates", "exempt", "[]");
        site.set(section, key, value);
        let gateway = site.start();
        let first = Smtp::connect(gateway.address()).unwrap();
        assert_eq!(said_at_once(gateway.address()), refusal);
        assert_eq!(logged(&gateway, "connection refused", &refusal[..9], "client"), "127.0.0.1");
        drop(first);
        gateway.stop();
    }
}

#[tokio::test]
async fn senders_recipients_sizes_and_rates_are_looked_at_in_this_order() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    // Each mail is to be an event, also where there are many and they are alike.
    site.set("incidents", "storm", "false");
    site.set("incidents", "repeat", "'update'");
    site.set("smtp", "senders-allow", "['*@hive.example', '<>']");
    site.set("smtp", "senders-deny", "'noise@*'");
    site.set("smtp", "max-message-size", "'64 KiB'");
    site.set("smtp.rates", "exempt", "[]");
    for (limit, rate) in [("client", "'3/d'"), ("sender", "'2/d'"), ("recipient", "'1/d'")] {
        site.set("smtp.rates", limit, rate);
    }
    site.append("[[team]]\nname = 'soc'\nsecret-file = 'secret'\nrecipients = ['*@site.example']\n");
    site.unset("signl4", "secret-file");
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    let message = "Subject: x\n\nDown.\n";
    let mut mail = |from: &str, to: &str| {
        let reply = smtp.mail(from, &[to], message).unwrap();
        smtp.say("RSET").unwrap();
        reply.split_once(" queued").map_or(reply.clone(), |(taken, _)| taken.to_owned())
    };
    // Limits of 3 mails of a client, 2 of a sender and 1 for a recipient.
    let taken = "250 2.0.0";
    for denied in ["noise@hive.example", "a@elsewhere.example"] {
        assert_eq!(mail(denied, "1@site.example"), "550 5.7.1 sender not allowed here");
        assert_eq!(logged(&gateway, "sender refused: not allowed", "", "client"), "127.0.0.1");
    }
    let nobody = "550 5.1.1 no team takes mail for this recipient";
    assert_eq!(mail("a@hive.example", "somebody@elsewhere.example"), nobody);
    let unknown = logged(&gateway, "recipient refused: unknown", "", "recipient");
    assert_eq!(unknown, "\"somebody@elsewhere.example\"");
    assert_eq!(mail("a@hive.example", "1@site.example"), taken);
    assert_eq!(
        mail("b@hive.example", "1@site.example"),
        "450 4.7.1 too many mails for a recipient, try again later"
    );
    assert_eq!(logged(&gateway, "mail refused: too many", "450 4.7.1", "recipient"), "\"1@site.example\"");
    assert_eq!(mail("a@hive.example", "2@site.example"), taken);
    assert_eq!(
        mail("a@hive.example", "3@site.example"),
        "450 4.7.1 too many mails from this sender, try again later"
    );
    assert_eq!(mail("", "4@site.example"), taken);
    assert_eq!(
        mail("c@hive.example", "5@site.example"),
        "450 4.7.1 too many mails from your address, try again later"
    );
    let reply = smtp.say("MAIL FROM:<a@hive.example> SIZE=99999").unwrap();
    assert_eq!(reply, "552 5.3.4 message too large");
    assert_eq!(logged(&gateway, "mail refused: too large", "", "sender"), "\"a@hive.example\"");
    let all = standin.wait_for_events(3);
    assert_eq!(tokio::time::timeout(PATIENCE, all).await.unwrap().len(), 3);
    gateway.stop();
}

#[tokio::test]
async fn a_mail_without_the_login_that_it_needs_is_refused_and_told() {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    std::fs::write(site.path("users"), users::line("hive", "s3cret").unwrap()).unwrap();
    site.unset("smtp", "listen");
    site.set("smtp", "users", "'users'");
    site.append("[[smtp.listener]]\naddress = '127.0.0.1:0'\nauth-without-tls = true\nrequire-auth = true\n");
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    let reply = smtp.mail("nagios@hive.example", &["soc"], "Subject: x\n\nDown.\n").unwrap();
    assert_eq!(reply, "530 5.7.0 authentication required");
    assert_eq!(logged(&gateway, "mail refused", "530 5.7.0", "sender"), "\"nagios@hive.example\"");
    gateway.stop();
}
