//! What becomes of mails while DNS does not answer, or not in time.

use super::*;

#[tokio::test]
async fn dns_that_fails_is_a_temporary_error_and_proves_nothing() {
    let key = Key::new();
    let mail = key.signed("example.org", &["From", "Subject"]);
    let zone = Resolver::fixed(&[
        ("s._domainkey.example.org", "SERVFAIL", ""),
        ("example.org", "SERVFAIL", ""),
        ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject"),
    ]);
    let all = found(zone, &mail).await;
    assert_eq!((all.spf, all.dkim), (Verdict::TempError, Verdict::TempError));
    assert_eq!((all.dmarc, all.proven), (Verdict::TempError, None));
}

#[tokio::test]
async fn dns_that_is_silent_holds_a_mail_up_no_longer_than_allowed() {
    // Bound and never read.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Resolver::at(silent.local_addr().unwrap().port());
    let config = Config { timeout: Duration::from_millis(200), ..Config::default() };
    let mail = Bytes::from(Key::new().signed("example.org", &["From", "Subject"]));
    let start = Instant::now();
    let found = checker(config, resolver).examine(&envelope(OUTSIDE, "a@example.org"), &mail).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(found, Authenticity { arc: Verdict::None, ..Authenticity::all(Verdict::TempError) });
}

/// How long a mail from outside that came at this second is held up, and whether anything was found out.
async fn held_up(checker: &Checker, second: i64, content: &Bytes) -> (Duration, bool) {
    let received_at = jiff::Timestamp::from_second(second).unwrap();
    let envelope = Envelope { received_at, ..envelope(OUTSIDE, "a@example.org") };
    let start = tokio::time::Instant::now();
    let found = checker.examine(&envelope, content).await.unwrap();
    (start.elapsed(), found.spf != Verdict::TempError)
}

#[tokio::test(start_paused = true)]
async fn dns_that_is_dead_holds_up_three_mails_and_then_one_in_half_a_minute() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let checker = checker(Config::default(), Resolver::at(silent.local_addr().unwrap().port()));
    let mail = Bytes::from_static(MAIL.as_bytes());
    let mut waits = Vec::new();
    for second in [0, 5, 10, 17, 18, 39, 40, 41, 69, 70] {
        let (wait, answered) = held_up(&checker, second, &mail).await;
        assert!(!answered);
        waits.push(wait.as_secs());
    }
    // The third asks for the root as well, and so does the first after each pause, and for nothing else.
    assert_eq!(waits, [5, 5, 7, 0, 0, 0, 2, 0, 0, 2]);
}

#[tokio::test]
async fn what_answers_again_is_asked_again() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = Config { timeout: Duration::from_millis(100), ..Config::default() };
    let checker = checker(config, Resolver::at(socket.local_addr().unwrap().port()));
    let mail = Bytes::from_static(MAIL.as_bytes());
    for second in 0..4 {
        assert!(!held_up(&checker, second, &mail).await.1);
    }
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            // The same question, as an answer that there is no such name, without the options behind it.
            let end = query[12..length].iter().position(|octet| *octet == 0).map_or(length, |at| 12 + at + 5);
            query[2..12].copy_from_slice(&[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
            let _ = socket.send_to(&query[..end], client);
        }
    });
    assert!(!held_up(&checker, 20, &mail).await.1, "nobody asks yet");
    assert!(held_up(&checker, 60, &mail).await.1);
    assert!(held_up(&checker, 61, &mail).await.1);
}

#[tokio::test]
async fn domains_that_do_not_answer_switch_off_the_check_of_no_other() {
    let zone = |root| {
        let records = [
            ("silent.example", "SERVFAIL", ""),
            ("example.org", "TXT", SPF),
            ("_dmarc.example.org", "TXT", "v=DMARC1; p=reject"),
            ("", root, ""),
        ];
        checker(Config::default(), Resolver::fixed(&records))
    };
    let mail = Bytes::from_static(MAIL.as_bytes());
    for (checker, checked) in [(zone("TXT"), true), (zone("SERVFAIL"), false)] {
        for _ in 0..10 {
            let found = checker.examine(&envelope(OUTSIDE, "a@silent.example"), &mail).await.unwrap();
            assert_eq!(found.spf, Verdict::TempError);
        }
        let found = checker.examine(&envelope(OUTSIDE, "a@example.org"), &mail).await.unwrap();
        assert_eq!(found.spf == Verdict::Pass, checked);
    }
}
