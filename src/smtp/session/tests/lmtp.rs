//! LMTP (RFC 2033).

use super::*;

fn lmtp() -> Talk {
    Talk::at(|listener| listener.protocol = Protocol::Lmtp)
}

#[test]
fn lmtp_greets_by_its_own_word_and_takes_no_other() {
    let mut talk = lmtp();
    assert_eq!(talk.says(""), "220 mx.example LMTP smtp2signl4\r\n");
    assert_eq!(talk.codes("EHLO a\r\nHELO a\r\n"), "500 5.5.1, 500 5.5.1");
    let offers = talk.says("LHLO relay.example\r\n");
    for offer in ["PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "CHUNKING"] {
        assert!(offers.contains(&format!("250-{offer}\r\n")), "{offers}");
    }
    assert_eq!(talk.session.client.helo, "relay.example");
    assert_eq!(Talk::new().codes("LHLO a\r\n"), "220, 502 5.5.1");
}

#[test]
fn each_accepted_recipient_has_its_reply_to_the_one_mail() {
    for content in ["DATA\r\nx\r\n.\r\n", "BDAT 3 LAST\r\nx\r\n", "BDAT 3\r\nx\r\nBDAT 0 LAST\r\n"] {
        let mut talk = lmtp();
        talk.says("LHLO a\r\nMAIL FROM:<a>\r\n");
        assert_eq!(
            talk.codes("RCPT TO:<b>\r\nRCPT TO:<nobody>\r\nRCPT TO:<c>\r\nRCPT TO:<b>\r\n"),
            "250 2.1.5, 550 5.1.1, 250 2.1.5, 250 2.1.5"
        );
        let said = talk.says(content);
        let queued = format!("250 2.0.0 queued as {}\r\n", id());
        assert!(said.ends_with(&queued.repeat(3)) && said.matches("queued").count() == 3, "{said}");
        assert_eq!(talk.mails.len(), 1);
        assert_eq!(talk.mails[0].envelope.recipients, ["b", "c", "b"]);
        assert_eq!(talk.codes("NOOP\r\n"), "250 2.0.0");
    }
}

#[test]
fn a_refusal_is_told_for_each_recipient_as_well() {
    let two = "LHLO a\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nRCPT TO:<c>\r\n";
    let mut talk = lmtp();
    talk.outcome = Err(Refusal::Full);
    talk.says(two);
    assert_eq!(talk.codes("DATA\r\n.\r\nNOOP\r\n"), "354, 452 4.3.1, 452 4.3.1, 250 2.0.0");
    talk.says(two);
    talk.says("DATA\r\nx");
    talk.session.give_up();
    assert_eq!(talk.codes("\r\n.\r\n"), "452 4.3.1, 452 4.3.1");
    talk.says(two);
    talk.session.give_up();
    assert_eq!(talk.codes("BDAT 1 LAST\r\nx"), "452 4.3.1, 452 4.3.1");
}

#[test]
fn a_mail_for_nobody_has_one_reply() {
    let mut talk = lmtp();
    talk.says("LHLO a\r\nMAIL FROM:<a>\r\nRCPT TO:<nobody>\r\nRCPT TO:<nobody>\r\n");
    assert_eq!(talk.codes("DATA\r\n"), "503 5.5.1");
    assert_eq!(talk.codes("BDAT 6 LAST\r\nQUIT\r\n"), "503 5.5.1");
}
