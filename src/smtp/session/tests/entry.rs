//! Senders that are not allowed, and mails that are too many.

use super::*;

#[test]
fn a_sender_that_is_not_allowed_is_refused_and_others_may_still_come_in_the_session() {
    let mut talk = Talk::configured("senders-deny = ['*@spam.example', '<>']\nmax-errors = 3\n");
    for _ in 0..10 {
        assert_eq!(talk.codes("MAIL FROM:<a@Spam.example>\r\n"), "550 5.7.1");
        assert_eq!(talk.codes("MAIL FROM:<>\r\n"), "550 5.7.1");
    }
    assert_eq!(talk.codes("MAIL FROM:<a@b>\r\nRCPT TO:<c>\r\nDATA\r\n"), "250 2.1.0, 250 2.1.5, 354");
}

#[test]
fn who_names_more_strangers_than_a_mail_has_recipients_and_sends_nothing_is_turned_out() {
    let denied = ("MAIL FROM:<a@spam.example>\r\nNOOP\r\n", "550 5.7.1, 250 2.0.0");
    let unknown = ("RCPT TO:<nobody@b>\r\nNOOP\r\n", "550 5.1.1, 250 2.0.0");
    for (said, answered) in [denied, unknown] {
        let mut talk =
            Talk::configured("senders-deny = '*@spam.example'\nmax-recipients = 100\nmax-errors = 3\n");
        if said == unknown.0 {
            talk.says("MAIL FROM:<a>\r\n");
        }
        for at in 0..100 {
            assert_eq!(talk.codes(said), answered, "{at}");
        }
        if said == denied.0 {
            // A mail that is taken shows that it is a relay.
            assert_eq!(talk.codes("MAIL FROM:<a>\r\nRCPT TO:<c>\r\nDATA\r\n"), "250 2.1.0, 250 2.1.5, 354");
            assert_eq!(talk.codes("x\r\n.\r\n"), "250 2.0.0");
            assert_eq!(talk.codes(said.repeat(100)).matches(answered).count(), 100);
        }
        assert_eq!(talk.codes(said), "421 4.7.0");
        assert_eq!(talk.closed, Some(false));
    }
}

#[test]
fn a_mail_over_a_rate_is_refused_for_now_and_its_text_is_not_obeyed() {
    let mut talk = Talk::configured("[rates]\nclient = '2/m'\nsender = '1/m'\n");
    assert_eq!(talk.codes("MAIL FROM:<a>\r\nRCPT TO:<c>\r\nDATA\r\n"), "250 2.1.0, 250 2.1.5, 354");
    assert_eq!(talk.codes("x\r\n.\r\n"), "250 2.0.0");
    // Nothing but a mail that comes in is counted.
    assert_eq!(talk.codes("MAIL FROM:<b>\r\nRCPT TO:<c>\r\nRSET\r\n"), "250 2.1.0, 250 2.1.5, 250 2.0.0");
    let one_too_many = "MAIL FROM:<a>\r\nRCPT TO:<c>\r\nDATA\r\n";
    assert_eq!(talk.codes(one_too_many), "250 2.1.0, 250 2.1.5, 450 4.7.1");
    assert_eq!(
        talk.codes("RSET\r\nMAIL FROM:<b>\r\nRCPT TO:<c>\r\nDATA\r\n"),
        "250 2.0.0, 250 2.1.0, 250 2.1.5, 354"
    );
    assert_eq!(talk.codes("x\r\n.\r\n"), "250 2.0.0");
    assert_eq!(
        talk.codes(format!("{one_too_many}Subject: x\r\nMAIL FROM:<evil>\r\n")),
        "250 2.1.0, 250 2.1.5, 450 4.7.1, 421 4.7.0"
    );
    assert_eq!(talk.mails.len(), 2);
}

#[test]
fn no_chunk_of_a_mail_over_a_rate_is_taken_however_late() {
    let mut talk = Talk::configured("[rates]\nclient = '1/s'\n");
    let envelope = "MAIL FROM:<a>\r\nRCPT TO:<c>\r\n";
    assert_eq!(talk.codes(format!("{envelope}BDAT 3 LAST\r\nx\r\n")), "250 2.1.0, 250 2.1.5, 250 2.0.0");
    assert_eq!(talk.codes(format!("{envelope}BDAT 3\r\nx\r\n")), "250 2.1.0, 250 2.1.5, 450 4.7.1");
    talk.clock.advance(jiff::SignedDuration::from_secs(1));
    assert_eq!(talk.codes("BDAT 3 LAST\r\ny\r\n"), "450 4.7.1");
    assert_eq!(talk.codes("RSET\r\n"), "250 2.0.0");
    // The chunks of a mail are one mail.
    assert_eq!(
        talk.codes(format!("{envelope}BDAT 3\r\nx\r\nBDAT 3\r\ny\r\nBDAT 0 LAST\r\n")),
        "250 2.1.0, 250 2.1.5, 250 2.0.0, 250 2.0.0, 250 2.0.0"
    );
    assert_eq!(talk.contents(), [&b"x\r\n"[..], b"x\r\ny\r\n"]);
}
