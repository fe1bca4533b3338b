//! BDAT (RFC 3030).

use super::*;

const TO_B: &str = "MAIL FROM:<a>\r\nRCPT TO:<b>\r\n";

#[test]
fn a_mail_comes_in_chunks_in_which_nothing_has_a_meaning() {
    let mut talk = Talk::new();
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 9\r\n..x\r\n.\r\n\n"), "250 2.0.0");
    assert_eq!(talk.codes("BDAT 18\r\nMAIL FROM:<evil>\r\n"), "250 2.0.0");
    assert_eq!(talk.codes(b"BDAT 3 LAST\r\n\xff\0\n"), "250 2.0.0");
    assert_eq!(talk.contents(), [&b"..x\r\n.\r\n\nMAIL FROM:<evil>\r\n\xff\0\n"[..]]);
    assert_eq!(talk.mails[0].envelope.recipients, ["b"]);
}

#[test]
fn the_last_chunk_may_be_the_only_one_and_may_be_empty() {
    let mut talk = Talk::new();
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 5\r\nab\r\n.BDAT 0 LAST\r\n"), "250 2.0.0, 250 2.0.0");
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 0 LAST\r\n"), "250 2.0.0");
    assert_eq!(talk.contents(), [&b"ab\r\n."[..], b""]);
}

const PIPELINED: &str = "EHLO a\r\nBDAT 6\r\nQUIT\r\nMAIL FROM:<a> BODY=BINARYMIME\r\nBDAT 7 LAST\r\nRSET\r\n.\
     RCPT TO:<nobody>\r\nBDAT 8\r\nDATA\r\n\r\nRCPT TO:<b>\r\nBDAT 3\r\na\r\nNOOP\r\nRCPT TO:<c>\r\nMAIL FROM:<c>\r\n\
     BDAT 5\r\n\n.\r\n.BDAT 0 LAST\r\nBDAT 2 LAST\r\n\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nBDAT 1\r\nxRSET\r\n\
     MAIL FROM:<z>\r\nRCPT TO:<b>\r\nBDAT 2\r\n.\rBDAT 1 LAST\r\n\nQUIT\r\n";

#[test]
fn chunks_are_the_same_however_their_bytes_come() {
    let mut whole = Talk::new();
    let codes = whole.codes(PIPELINED);
    assert_eq!(
        codes,
        "220, 250, 503 5.5.1, 250 2.1.0, 503 5.5.1, 550 5.1.1, 554 5.5.1, 250 2.1.5, 250 2.0.0, 250 2.0.0, \
         503 5.5.1, 503 5.5.1, 250 2.0.0, 250 2.0.0, 503 5.5.1, 250 2.1.0, 250 2.1.5, 250 2.0.0, 250 2.0.0, \
         250 2.1.0, 250 2.1.5, 250 2.0.0, 250 2.0.0, 221 2.0.0"
    );
    assert_eq!(whole.contents(), [&b"a\r\n\n.\r\n."[..], b".\r\n"]);
    for at in 0..PIPELINED.len() {
        let mut cut = Talk::new();
        let (head, tail) = PIPELINED.split_at(at);
        let answer = [cut.codes(head), cut.codes(tail)];
        let answer: Vec<_> = answer.into_iter().filter(|part| !part.is_empty()).collect();
        assert_eq!((answer.join(", "), cut.contents()), (codes.clone(), whole.contents()), "cut at {at}");
    }
    let mut bytes = Talk::new();
    let answer: Vec<String> =
        PIPELINED.bytes().map(|byte| bytes.codes([byte])).filter(|part| !part.is_empty()).collect();
    assert_eq!((answer.join(", "), bytes.contents()), (codes, whole.contents()));
}

#[test]
fn data_and_bdat_do_not_mix() {
    let mut talk = Talk::new();
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 1\r\nx"), "250 2.0.0");
    assert_eq!(talk.codes("DATA\r\n"), "503 5.5.1");
    assert_eq!(talk.codes("RSET\r\n"), "250 2.0.0");
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 1\r\nx"), "250 2.0.0");
    assert_eq!(talk.codes("DATA\r\nsmuggled\r\n.\r\n"), "503 5.5.1, 421 4.7.0");
    assert!(talk.mails.is_empty());
}

#[test]
fn a_binary_mail_needs_bdat() {
    let mut talk = Talk::new();
    talk.says("MAIL FROM:<a> BODY=BINARYMIME\r\nRCPT TO:<b>\r\n");
    assert_eq!(talk.codes("DATA\r\n"), "503 5.5.1");
    assert_eq!(talk.codes("BDAT 2 LAST\r\n\0\n"), "250 2.0.0");
    assert_eq!(talk.contents(), [b"\0\n"]);
}

#[test]
fn a_mail_that_is_too_large_is_refused_chunk_by_chunk() {
    let mut talk = Talk::with(|config| config.max_message_size = 10);
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 6\r\n123456BDAT 5\r\n78901"), "250 2.0.0, 552 5.3.4");
    assert_eq!(talk.session.held(), size_of::<String>() * 4 + 1);
    assert_eq!(talk.codes("BDAT 1\r\nxBDAT 6 LAST\r\nQUIT\r\n"), "552 5.3.4, 552 5.3.4");
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 10 LAST\r\n1234567890"), "250 2.0.0");
    talk.says(TO_B);
    // It is known before the first octet that none is to be kept.
    assert_eq!(talk.codes("BDAT 40 LAST\r\n12345"), "");
    assert_eq!(talk.session.held(), size_of::<String>() * 4 + 1);
    assert_eq!(talk.codes("x".repeat(35)), "552 5.3.4");
    assert_eq!(talk.mails.len(), 1);
}

#[test]
fn a_chunk_that_nobody_can_wait_for_ends_the_session() {
    for size in ["41", "99999999999999999999999999", "18446744073709551615 LAST"] {
        let mut talk = Talk::with(|config| config.max_message_size = 10);
        talk.says(TO_B);
        assert_eq!(talk.codes(format!("BDAT {size}\r\nQUIT\r\n")), "552 5.3.4", "{size}");
        assert_eq!(talk.closed, Some(false));
    }
}

#[test]
fn a_chunk_of_which_it_is_not_known_where_it_ends_ends_the_session() {
    let blanks = " ".repeat(9999);
    for line in [
        "BDAT",
        " BDAT",
        "bdat x",
        "BDAT 1 2",
        "BDAT -1 LAST",
        "BDAT 1\x07",
        &format!("BDAT {blanks}1"),
        &format!(" \tBDAT {blanks}1"),
    ] {
        let rest = format!("{line}\r\nRSET\r\nNOOP\r\n");
        for at in [1, 2, 3, 5, rest.len() - 14, rest.len()] {
            let mut talk = Talk::new();
            talk.says(TO_B);
            let found = talk.codes(&rest[..at]) + &talk.codes(&rest[at..]);
            assert!(["501 5.5.4", "500 5.5.2"].contains(&found.as_str()), "{line} cut at {at}: {found}");
            assert_eq!(talk.closed, Some(false), "{line} cut at {at}");
        }
    }
}

#[test]
fn chunks_without_memory_are_refused_for_now_to_the_last() {
    let mut talk = Talk::new();
    talk.says(TO_B);
    assert_eq!(talk.codes("BDAT 5000\r\n".to_owned() + &"x".repeat(4000)), "");
    assert!(talk.session.held() >= 4000);
    talk.session.give_up();
    assert_eq!(talk.session.held(), 0);
    assert_eq!(talk.codes("x".repeat(1000)), "452 4.3.1");
    assert_eq!(talk.codes("BDAT 1\r\nxBDAT 1 LAST\r\nxNOOP\r\n"), "452 4.3.1, 452 4.3.1, 250 2.0.0");

    talk.says(TO_B);
    talk.session.give_up();
    assert_eq!(talk.codes("BDAT 6 LAST\r\nQUIT\r\n"), "452 4.3.1");
    assert!(talk.mails.is_empty());
    assert_eq!(talk.codes(TO_B), "250 2.1.0, 250 2.1.5");
}

#[test]
fn a_session_between_two_chunks_is_inside_a_mail() {
    let mut talk = Talk::new();
    talk.says(TO_B);
    assert!(!talk.session.in_data());
    talk.says("BDAT 1\r\nx");
    assert!(talk.session.in_data());
    talk.says("RSET\r\n");
    assert!(!talk.session.in_data());
}
