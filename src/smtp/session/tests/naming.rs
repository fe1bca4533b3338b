//! XCLIENT (Postfix's XCLIENT_README).

use std::net::IpAddr;

use crate::mail::Tls;

use super::*;

/// A talk with the relay at 192.0.2.7, who may name its client.
fn relay() -> Talk {
    Talk::at(|listener| listener.xclient = vec!["192.0.2.0/29".parse().unwrap()])
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_relay_names_its_client_and_the_session_begins_anew() {
    let mut talk = relay();
    assert!(
        talk.says("EHLO relay\r\n")
            .ends_with("250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n")
    );
    assert_eq!(
        talk.says("XCLIENT NAME=spike.example ADDR=203.0.113.9 HELO=spi+2Bke LOGIN=alice\r\n"),
        "220 mx.example ESMTP smtp2signl4\r\n"
    );
    assert_eq!(talk.session.client.helo, "spi+ke");
    talk.says("EHLO spike.example\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n");
    let wanted = Client {
        address: address("203.0.113.9"),
        relay: address("192.0.2.7"),
        helo: "spike.example".into(),
        user: Some("alice".into()),
        tls: None,
    };
    assert_eq!(talk.mails[0].envelope.client, wanted);
}

#[test]
fn nobody_else_names_a_client_and_nobody_is_made_one_who_may() {
    let mut talk = Talk::new();
    assert!(!talk.says("EHLO a\r\n").contains("XCLIENT"));
    assert_eq!(talk.codes("XCLIENT ADDR=127.0.0.1\r\nXCLIENT x\r\n"), "550 5.7.0, 550 5.7.0");
    assert_eq!(talk.session.client, Client { helo: "a".into(), ..client() });

    // Not by the address that it was given, but by its own, both ways.
    let mut talk = relay();
    assert_eq!(talk.codes("XCLIENT ADDR=203.0.113.9\r\nXCLIENT LOGIN=a\r\n"), "220, 220, 220");
    assert_eq!(talk.session.client.address, address("203.0.113.9"));
    assert_eq!(talk.session.client.relay, address("192.0.2.7"));
    let mut outside = Talk::at(|listener| listener.xclient = vec!["203.0.113.0/24".parse().unwrap()]);
    assert_eq!(outside.codes("XCLIENT ADDR=203.0.113.9\r\n"), "220, 550 5.7.0");
    let mut local = relay();
    local.session.speaker = None;
    assert_eq!(local.codes("XCLIENT ADDR=203.0.113.9\r\n"), "220, 550 5.7.0");
}

#[test]
fn xclient_in_a_mail_or_not_in_form_changes_nothing() {
    let mut talk = relay();
    talk.says("EHLO a\r\nMAIL FROM:<a>\r\n");
    assert_eq!(talk.codes("XCLIENT ADDR=203.0.113.9\r\nRCPT TO:<b>\r\n"), "503 5.5.1, 250 2.1.5");
    assert_eq!(talk.codes("RSET\r\nXCLIENT\r\nXCLIENT ADDR=x\r\n"), "250 2.0.0, 501 5.5.4, 501 5.5.4");
    assert_eq!(talk.session.client, Client { helo: "a".into(), ..client() });
}

#[test]
fn what_several_commands_say_adds_up() {
    let mut talk = relay();
    talk.says("XCLIENT ADDR=IPV6:2001:db8::9\r\nXCLIENT LOGIN=alice\r\nXCLIENT HELO=spike\r\n");
    let found = &talk.session.client;
    assert_eq!(
        (found.address, found.user.as_deref(), &*found.helo),
        (address("2001:db8::9"), Some("alice"), "spike")
    );
    let mut talk = relay();
    talk.says("XCLIENT LOGIN=[UNAVAILABLE] ADDR=[UNAVAILABLE]\r\n");
    let found = &talk.session.client;
    assert_eq!((found.address, found.relay, found.user.as_deref()), (None, address("192.0.2.7"), None));
}

#[test]
fn what_was_said_of_the_client_is_not_said_again() {
    for again in
        ["ADDR=127.0.0.1", "LOGIN=root", "HELO=x", "LOGIN=[UNAVAILABLE]", "ADDR=127.0.0.1 LOGIN=root"]
    {
        let mut talk = relay();
        talk.says("XCLIENT ADDR=203.0.113.9 LOGIN=alice HELO=spike\r\n");
        let before = talk.session.client.clone();
        assert_eq!(talk.codes(format!("XCLIENT {again}\r\n")), "503 5.5.1", "{again}");
        assert_eq!(talk.session.client, before, "{again}");
    }
}

#[test]
fn a_client_whose_bytes_are_piped_on_names_itself_nothing() {
    let between = [
        "EHLO spike",
        "HELO spike",
        "NOOP",
        "RSET",
        "MAIL FROM:<a>",
        "XYZ",
        "VRFY a",
        "STARTTLS",
        "AUTH PLAIN",
    ];
    for between in between {
        let mut talk = relay();
        talk.says("EHLO relay\r\nXCLIENT ADDR=203.0.113.9\r\n");
        talk.says(format!("{between}\r\nRSET\r\n"));
        let before = talk.session.client.clone();
        assert_eq!(talk.codes("XCLIENT ADDR=127.0.0.1 LOGIN=root\r\n"), "503 5.5.1", "{between}");
        assert_eq!(talk.codes("XCLIENT LOGIN=root\r\n"), "503 5.5.1", "{between}");
        assert_eq!(talk.session.client, before, "{between}");
        assert!(!talk.says("EHLO spike\r\n").contains("XCLIENT"), "{between}");
    }
}

#[test]
fn a_client_that_was_named_cannot_make_the_relay_of_itself_by_a_handshake() {
    let mut talk = Talk::at(|listener| {
        listener.xclient = vec!["192.0.2.0/29".parse().unwrap()];
        listener.tls = crate::smtp::listener_config::TlsMode::Starttls;
    });
    assert!(talk.says("EHLO relay\r\n").contains("STARTTLS"));
    talk.says("XCLIENT ADDR=203.0.113.9\r\n");
    assert_eq!(talk.codes("STARTTLS\r\n"), "503 5.5.1");
    assert!(!talk.says("EHLO spike\r\n").contains("STARTTLS"));
    assert_eq!(talk.codes("STARTTLS\r\nXCLIENT ADDR=127.0.0.1\r\n"), "503 5.5.1, 503 5.5.1");
    assert_eq!(talk.session.client.address, address("203.0.113.9"));
    // Within TLS that the relay began itself it names its client, after the handshake.
    let mut talk = Talk::at(|listener| {
        listener.xclient = vec!["192.0.2.0/29".parse().unwrap()];
        listener.tls = crate::smtp::listener_config::TlsMode::Starttls;
    });
    talk.says("STARTTLS\r\n");
    assert_eq!(talk.codes("XCLIENT ADDR=203.0.113.9\r\n"), "220");
}

#[test]
fn what_the_relay_proved_proves_nothing_of_its_client() {
    let mut talk = relay();
    talk.session.client.user = Some("relay".into());
    talk.session.client.tls =
        Some(Tls { version: "TLSv1.3".into(), subject: Some("CN=relay".into()), ..Tls::default() });
    talk.says("XCLIENT ADDR=203.0.113.9\r\n");
    assert_eq!(talk.session.client.user, None);
    assert_eq!(talk.session.client.tls.as_ref().map(|tls| tls.subject.as_deref()), Some(None));
}
