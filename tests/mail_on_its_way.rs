//! What happens to a mail on its way costs nothing: it is judged as its sender wrote it. And what somebody only passes on
//! opens, and closes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use smtp2signl4::config;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::event::{Event, Status};
use smtp2signl4::mail::{Client, Envelope, Origin, Wrapping};
use smtp2signl4::rules::{Judgement, RuleSet, Subject, shipped};

/// The shipped rules at a site whose config is `text`.
fn rules(text: &str) -> RuleSet {
    let config =
        config::parse(None, &Source::new("c", text)).unwrap_or_else(|problems| panic!("{problems:?}"));
    RuleSet::load(&shipped(), config.site()).expect("the shipped rules load")
}

/// How a mail comes from this address; within 10.0.0.0/8 it is trusted.
fn envelope(client: &str) -> Envelope {
    Envelope {
        received_at: jiff::Timestamp::UNIX_EPOCH,
        origin: Origin::Smtp,
        client: Client { address: Some(client.parse().expect("it is an address")), ..Client::default() },
        reverse_path: "bounce@a.example".to_owned(),
        recipients: vec!["soc@gw.example".to_owned()],
        ..Envelope::default()
    }
}

fn judge_from(rules: &RuleSet, mail: &str, client: &str) -> Judgement {
    let (message, envelope) = (rules.read(mail.as_bytes()), envelope(client));
    rules.judge(&Subject { message: &message, envelope: &envelope, team: "soc" })
}

fn judge(rules: &RuleSet, mail: &str) -> Event {
    judge_from(rules, mail, "10.1.2.3").events.into_iter().next().unwrap_or_else(|| panic!("{mail}"))
}

/// What must not change.
fn essence(event: &Event) -> (Option<&str>, String, Option<String>, Option<&str>) {
    (
        event.external_id.as_deref(),
        event.status.to_string(),
        event.severity.map(|severity| severity.to_string()),
        event.source_system.as_deref(),
    )
}

const PROBLEM: &str = "From: nagios@mon.example\nTo: soc@gw.example\nSubject: ** PROBLEM Service Alert: db 1/Disk / is CRITICAL **\nDate: Mon, 30 Nov 2026 10:00:00 +0000\nMessage-ID: <p@mon.example>\nContent-Type: text/plain; charset=utf-8\n\n***** Nagios *****\n\nNotification Type: PROBLEM\n\nService: Disk /\nHost: db 1\nAddress: 192.0.2.7\nState: CRITICAL\n\nDate/Time: x\n\nAdditional Info:\n\nDISK CRITICAL - 2% free\n";

fn recovery() -> String {
    PROBLEM
        .replace("PROBLEM", "RECOVERY")
        .replace("is CRITICAL", "is OK")
        .replace("State: CRITICAL", "State: OK")
}

/// A mail of the helpdesk that passes on `mail`: as a file, within its text, and in the report of a spam filter.
fn passed_on(mail: &str) -> [(Wrapping, String); 3] {
    let head = "From: Helpdesk <helpdesk@ops.example>\nTo: soc@gw.example\nDate: Mon, 30 Nov 2026 10:01:00 +0000\nMessage-ID: <f@ops.example>\n";
    let (inner, text) = mail.split_once("\n\n").expect("a header and a text");
    let subject = inner.split("Subject: ").nth(1).and_then(|rest| rest.lines().next()).expect("a subject");
    let attached = |note: &str| {
        format!(
            "{head}Subject: FW: {subject}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n{note}\n--b\nContent-Type: message/rfc822\n\n{mail}\n--b--\n"
        )
    };
    [
        (Wrapping::Attached, attached("please have a look")),
        (
            Wrapping::Inline,
            format!(
                "{head}Subject: Fwd: {subject}\n\nplease have a look\n\n---------- Forwarded message ---------\nFrom: Nagios <nagios@mon.example>\nDate: Mon, 30 Nov 2026 at 10:00\nSubject: {subject}\nTo: <helpdesk@ops.example>\n\n{text}"
            ),
        ),
        (
            Wrapping::SpamReport,
            attached(
                "Spam detection software, running on the system \"mx\",\nhas identified this incoming email as possible spam.",
            ),
        ),
    ]
}

fn mails(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("the folder can be read").map(|entry| entry.expect("it is there").path());
    let mut found: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { mails(&path) } else { vec![path] }).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    found.sort();
    found
}

#[test]
fn tags_banners_and_footers_cost_no_sample_mail_its_key_severity_or_close() {
    let rules = rules("[mail]\nsubject-tags = ['ACME-EXT']\nbanners = ['Scanned for ACME, of course.']\n");
    let tags = ["[EXTERNAL] ", "EXTERNAL: ", "*** SPAM *** ", "WG: ", "[SUSPICIOUS] FW: TR: ", "acme-ext "];
    let banners = [
        "CAUTION: This email originated from outside of the organization. Do not click links unless you know the sender.\n\n",
        "EXTERNAL EMAIL\n\n",
        "Scanned for ACME,\nof course.\n\n",
    ];
    let footers = [
        "\n\n________________________________\nThis e-mail is confidential and meant for the addressee only.\n",
        "\n\n_______________________________________________\nalerts mailing list\nalerts@lists.example\n",
        "\n\nScanned for ACME, of course.\n",
    ];
    let mut tried = 0;
    for path in mails(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail")) {
        let Ok(mail) = String::from_utf8(fs::read(&path).expect("it can be read")) else { continue };
        let mail = mail.replace("\r\n", "\n");
        let Some((head, text)) = mail.split_once("\n\n") else { continue };
        let lower = head.to_lowercase();
        let plain = !lower.contains("content-type:") || lower.contains("content-type: text/plain");
        let clear = !lower.contains("base64") && !lower.contains("quoted-printable") && text.len() > 40;
        let clean = judge_from(&rules, &mail, "10.1.2.3");
        let [event] = clean.events.as_slice() else { continue };
        let known = event
            .external_id
            .as_deref()
            .is_some_and(|id| !id.starts_with("subject:") && !id.starts_with("thread:"));
        if !known || !plain || !clear || !head.contains("\nSubject: ") && !head.starts_with("Subject: ") {
            continue;
        }
        tried += 1;
        for (at, tag) in tags.iter().enumerate() {
            let head = head.replacen("Subject: ", &format!("Subject: {tag}"), 1);
            let dirty = format!("{head}\n\n{}{text}{}", banners[at % 3], footers[at % 2 * 2]);
            let judged = judge(&rules, &dirty);
            assert_eq!(essence(&judged), essence(event), "{} with {tag}:\n{dirty}", path.display());
            assert_eq!(judged.title, event.title, "{}", path.display());
        }
    }
    assert!(tried >= 10, "only {tried} sample mails were tried");
}

#[test]
fn a_mail_that_is_passed_on_opens_with_its_key_and_severity_under_the_note() {
    let rules = rules("");
    let clean = judge(&rules, PROBLEM);
    for (wrapping, mail) in passed_on(PROBLEM) {
        let event = judge(&rules, &mail);
        assert_eq!(essence(&event), essence(&clean), "{wrapping:?}");
        assert!(event.message.contains("DISK CRITICAL - 2% free"), "{wrapping:?}: {}", event.message);
        let noted = event.message.starts_with("please have a look\n\n");
        assert_eq!(noted, wrapping != Wrapping::SpamReport, "{}", event.message);
        assert_eq!(rules.read(mail.as_bytes()).wrapper.map(|wrapper| wrapper.wrapping), Some(wrapping));
    }
}

#[test]
fn a_mail_that_is_passed_on_closes_only_if_the_site_names_who_does_it_and_vouches_for_him() {
    let unnamed = rules("");
    let named = rules("[[mail.forwarder]]\nfrom = 'helpdesk@ops.example'\nunwrap = true\n");
    assert_eq!(judge(&unnamed, &recovery()).status, Status::Resolved, "by itself it closes");
    for (wrapping, mail) in passed_on(&recovery()) {
        let event = judge(&unnamed, &mail);
        assert_eq!(event.status, Status::New, "{wrapping:?}");
        assert!(event.message.contains("it was only forwarded: the alert stays open"), "{}", event.message);
        assert_eq!(judge(&named, &mail).status, Status::Resolved, "{wrapping:?}");
        let stranger = judge_from(&named, &mail, "203.0.113.9");
        assert_eq!(stranger.events[0].status, Status::New, "{wrapping:?}: a stranger can write any From");
    }
}

#[test]
fn the_inner_sender_is_the_instance_only_where_the_site_names_who_passes_on() {
    let named = rules("[[mail.forwarder]]\nfrom = 'helpdesk@ops.example'\nunwrap = true\n");
    for (wrapping, mail) in passed_on(PROBLEM) {
        assert_eq!(judge(&named, &mail).identity.instance, "nagios@mon.example", "{wrapping:?}");
        let unnamed = judge(&rules(""), &mail).identity;
        assert_eq!(unnamed.instance, "helpdesk@ops.example", "{wrapping:?}");
        assert_eq!(unnamed.domain, "mon.example", "{wrapping:?}: what its sender may close");
    }
}

#[test]
fn no_shipped_rule_drops_what_was_only_passed_on() {
    let noise = "From: nagios@mon.example\nTo: soc@gw.example\nSubject: [EXTERNAL] ** DOWNTIMESTART Service Alert: db 1/Disk is OK **\nMessage-ID: <d@mon.example>\n\n***** Nagios *****\n\nNotification Type: DOWNTIMESTART\n\nService: Disk\nHost: db 1\nAddress: 192.0.2.7\nState: OK\n\nDate/Time: x\n";
    let rules = rules("");
    for (wrapping, mail) in passed_on(noise) {
        assert!(!judge_from(&rules, &mail, "10.1.2.3").events.is_empty(), "{wrapping:?}");
    }
}

#[test]
fn parameters_inside_a_mail_that_is_passed_on_steer_nothing() {
    let inner = format!("X-S4-Status: resolved\nX-S4-ExternalID: taken\n{PROBLEM}X-S4-ExternalID: taken\n");
    let rules = rules("");
    for (wrapping, mail) in passed_on(&inner) {
        let event = judge(&rules, &mail);
        assert_eq!(
            (event.status, event.external_id.as_deref()),
            (Status::New, Some("nagios:db 1!Disk /")),
            "{wrapping:?}"
        );
    }
}

#[test]
fn a_reply_is_no_mail_of_a_product() {
    let rules = rules("");
    for mark in ["Re: ", "AW: ", "SV: ", "Antw: ", "[EXTERNAL] Re: ", "FW: Re: "] {
        let mail = recovery()
            .replace("Subject: ", &format!("Subject: {mark}"))
            .replace("Date:", "In-Reply-To: <x@mon.example>\nDate:");
        let event = judge(&rules, &mail);
        assert_eq!((event.status, event.source_system.as_deref()), (Status::New, None), "{mark}");
        assert_ne!(event.external_id.as_deref(), Some("nagios:db 1!Disk /"), "{mark}");
    }
}

#[test]
fn evidence_that_a_product_attaches_is_shown_and_not_judged() {
    let report = "From: xsoar@soar.example\nTo: soc@gw.example\nSubject: [XSOAR #5121] User reported a mail\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nIncident 5121\nSeverity: 3\nStatus: Active\nOwner: kim\nName: User reported a mail\n--b\nContent-Type: message/rfc822\n\nFrom: nagios@mon.example\nSubject: ** RECOVERY Host Alert: web1 is UP **\n\nStatus: Closed\n--b--\n";
    let rules = rules("");
    let event = judge(&rules, report);
    assert_eq!((event.external_id.as_deref(), event.status), (Some("xsoar:5121"), Status::New));
    let read = rules.read(report.as_bytes());
    assert!(read.wrapper.is_none() && read.enclosed.contains("Status: Closed"));
}

#[test]
fn every_alert_of_a_digest_is_told() {
    let one = |host: &str| {
        format!(
            "--d\n\nFrom: nagios@mon.example\nSubject: ** PROBLEM Host Alert: {host} is DOWN **\n\nHost: {host}\nInfo: no answer\n\n"
        )
    };
    let digest = format!(
        "From: alerts-request@lists.example\nSubject: alerts Digest, Vol 3\nContent-Type: multipart/digest; boundary=d\n\n{}{}--d--\n",
        one("web1"),
        one("web2")
    );
    let event = judge(&rules(""), &digest);
    for told in ["web1 is DOWN", "web2 is DOWN", "Host: web2"] {
        assert!(event.message.contains(told), "{}", event.message);
    }
    let long = digest.replace("no answer", &"no answer at all\n".repeat(2_000));
    let event = judge(&rules(""), &long);
    assert!(event.message.contains("web2 is DOWN"), "a long mail hides the others: {:.200}", event.message);
}

#[test]
fn a_label_in_a_note_or_an_attached_mail_limits_what_leaves() {
    let limited = rules("[rules]\ntlp-limit = 'amber'\n");
    for (wrapping, mail) in passed_on(PROBLEM).into_iter().take(2) {
        let mail = mail.replace("please have a look", "TLP:RED please have a look");
        let event = judge(&limited, &mail);
        assert!(!event.message.contains("2% free"), "{wrapping:?}: {}", event.message);
    }
}
