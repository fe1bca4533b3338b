//! What is lenient and what is strict, and mails that go round in circles.

use super::*;

fn lenient() -> Talk {
    Talk::at(|listener| listener.lenient = true)
}

#[test]
fn what_was_repaired_is_in_the_envelope_and_only_in_its_own() {
    let mut talk = lenient();
    talk.says("EHLO\r\nMAIL FROM:a@a\r\nRCPT TO: <b>\nDATA\r\n");
    talk.says(format!("Subject: {}\r\n.\r\n", "x".repeat(1000)));
    talk.says("MAIL FROM:<a@a>\r\nRCPT TO:b\r\nDATA\r\n.\r\n");
    talk.says("EHLO a\r\nMAIL FROM:<a@a>\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n");
    let repairs: Vec<_> = talk.mails.iter().map(|mail| mail.envelope.repairs.join("; ")).collect();
    assert_eq!(
        repairs,
        [
            "MAIL FROM without brackets; blanks at the colon of MAIL FROM or RCPT TO; a greeting without a name; \
             a command that ends in a bare LF; a text line that is too long",
            "RCPT TO without brackets; a greeting without a name",
            "",
        ]
    );
    assert_eq!(talk.mails[0].envelope.reverse_path, "a@a");
    assert_eq!(talk.session.repaired(), 6);
}

#[test]
fn eight_bits_in_a_header_are_taken_and_noted_unless_declared() {
    let mut talk = Talk::new();
    talk.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nSubject: \u{fc}\r\n\r\n\u{fc}\r\n.\r\n");
    talk.says("MAIL FROM:<a> SMTPUTF8\r\nRCPT TO:<b>\r\nDATA\r\nSubject: \u{fc}\r\n\r\n\u{fc}\r\n.\r\n");
    talk.says("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nSubject: u\r\n\r\n\u{fc}\r\n.\r\n");
    talk.says("MAIL FROM:<a>\r\nRCPT TO:<\u{fc}>\r\nDATA\r\n.\r\n");
    talk.says("MAIL FROM:<\u{fc}> SMTPUTF8\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n");
    let repairs: Vec<_> = talk.mails.iter().map(|mail| mail.envelope.repairs.len()).collect();
    assert_eq!(repairs, [1, 0, 0, 1, 0]);
    assert_eq!(talk.contents()[0], "Subject: \u{fc}\r\n\r\n\u{fc}\r\n".as_bytes());
}

#[test]
fn a_command_may_be_longer_at_a_lenient_entrance() {
    let line = |length: usize| format!("NOOP {}\r\n", "x".repeat(length - 7));
    let mut talk = lenient();
    assert_eq!(talk.codes(line(command::MAX_LINE + 1)), "220, 250 2.0.0");
    assert_eq!(talk.codes(line(lenience::MAX_LINE)), "250 2.0.0");
    assert_eq!(talk.codes(line(lenience::MAX_LINE + 1)), "500 5.5.2");
}

#[test]
fn a_bare_lf_behind_a_command_ends_a_session_with_a_stranger() {
    let long = "x".repeat(9999) + "\n";
    for line in ["NOOP\n", "MAIL FROM:<a>\n", "\n", &long] {
        let near_an_end = |at: &usize| *at < 5 || line.len() - at < 5;
        for at in (0..line.len()).filter(near_an_end) {
            let mut talk = Talk::at(|listener| listener.public = true);
            talk.says("EHLO a\r\n");
            let said = talk.codes(&line[..at]) + &talk.codes(&line[at..]);
            assert_eq!((said.as_str(), talk.closed), ("500 5.5.2", Some(false)), "{line:?} cut at {at}");
        }
    }
    let long = "x".repeat(9999) + "\r\nNOOP\r\n";
    for at in [0, 1, command::MAX_LINE, 9999, 10_000, 10_001] {
        let mut talk = Talk::at(|listener| listener.public = true);
        talk.says("");
        let said = [talk.codes(&long[..at]), talk.codes(&long[at..])];
        assert_eq!(said.join(", ").trim_start_matches(", "), "500 5.5.2, 250 2.0.0", "cut at {at}");
    }
    // The line is too long by its last octet alone.
    let edge = "x".repeat(command::MAX_LINE - 1) + "\r\nNOOP\r\n";
    let mut talk = Talk::at(|listener| listener.public = true);
    talk.says("");
    assert_eq!(talk.codes(&edge[..command::MAX_LINE]), "");
    assert_eq!(talk.codes(&edge[command::MAX_LINE..]), "500 5.5.2, 250 2.0.0");
    // In a message it is text.
    assert_eq!(
        talk.codes("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nx\n.\ny\r\n.\r\n"),
        "250 2.1.0, 250 2.1.5, 354, 250 2.0.0"
    );
}

#[test]
fn a_mail_that_has_been_round_too_often_is_refused_for_good() {
    let mut talk = Talk::with(|config| config.max_hops = 3);
    let to_b = "MAIL FROM:<a>\r\nRCPT TO:<b>\r\n";
    let hops = |number: usize| "Received: from x\r\n\tby y\r\n".repeat(number) + "\r\nReceived: no\r\n";
    talk.says(to_b);
    assert_eq!(talk.codes(format!("DATA\r\n{}.\r\n", hops(3))), "354, 250 2.0.0");
    talk.says(to_b);
    assert_eq!(talk.codes(format!("DATA\r\n{}.\r\nNOOP\r\n", hops(4))), "354, 554 5.4.6, 250 2.0.0");
    talk.says(to_b);
    assert_eq!(talk.codes(format!("BDAT {} LAST\r\n{}", hops(4).len(), hops(4))), "554 5.4.6");
    assert_eq!(talk.mails.len(), 1);
}

#[test]
fn a_notice_of_ours_is_never_taken_back() {
    let mut talk = Talk::new();
    talk.says("MAIL FROM:<>\r\nRCPT TO:<b>\r\n");
    assert_eq!(
        talk.codes("DATA\r\nSubject: x\r\nX-SMTP2SIGNL4-Notice: 7\r\n\r\nx\r\n.\r\n"),
        "354, 554 5.4.6"
    );
    assert!(talk.mails.is_empty());
}
