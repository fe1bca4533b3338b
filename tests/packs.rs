//! Every sample mail goes through the whole real path, SMTP to webhook, and ends in the very events that
//! `explain` foretells.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smtp2signl4::standin::{Options, Standin};
use support::{PATIENCE, Site, Smtp};

/// Every `.eml` below `folder`, in order.
fn mails(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(mails(&path));
        } else if path.extension().is_some_and(|e| e == "eml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Hands over `content` as it is, but for the dots and the end that the protocol asks for.
fn send(smtp: &mut Smtp, content: &[u8]) -> String {
    for command in ["MAIL FROM:<sender@example.org> BODY=8BITMIME", "RCPT TO:<soc@example.org>", "DATA"] {
        let reply = smtp.say(command).unwrap();
        assert!(reply.starts_with(['2', '3']), "{reply}");
    }
    let mut data = Vec::with_capacity(content.len() + 64);
    let mut line_starts = true;
    for (at, &byte) in content.iter().enumerate() {
        if line_starts && byte == b'.' {
            data.push(b'.');
        }
        data.push(byte);
        line_starts = byte == b'\n' && at > 0 && content[at - 1] == b'\r';
    }
    if !line_starts {
        data.extend_from_slice(b"\r\n");
    }
    data.extend_from_slice(b".\r\n");
    smtp.write(&data).unwrap();
    smtp.reply().unwrap()
}

/// A key and its source: what gave the key, the instance and the family.
type Holder = (String, [String; 3]);

/// Who holds the key of an event that `explain` foretells; none if the event has none.
fn holder(event: &Value) -> Option<Holder> {
    let key = event["payload"]["X-S4-ExternalID"].as_str()?.to_owned();
    let part = |name: &str| event["identity"][name].as_str().unwrap_or_default().to_owned();
    Some((key, ["key-source", "instance", "family"].map(part)))
}

/// A posted payload under its key, if it was posted under the key of a shipped rule and its instance and another source
/// holds the key; any other id stays as it was posted.
fn with_its_key(mut posted: Value, foretold: &Value, holders: &BTreeSet<Holder>) -> Value {
    for (key, source) in foretold.as_array().unwrap().iter().filter_map(holder) {
        let [key_source, instance, family] = &source;
        let is_shared = holders.iter().any(|(other, of)| *other == key && *of != source);
        let suffixed = [format!("{key}@{instance}"), format!("{key}@{instance}@{family}")];
        let is_suffixed =
            posted["X-S4-ExternalID"].as_str().is_some_and(|id| suffixed.iter().any(|s| s == id));
        if key_source == "shipped" && is_shared && is_suffixed {
            posted["X-S4-ExternalID"] = key.into();
            break;
        }
    }
    posted
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_mail_ends_in_the_events_that_explain_foretells() {
    let standin = Standin::start(Options::default()).await.unwrap();
    let mut site = Site::new(&standin);
    // Many samples are of one incident, and all come within seconds.
    site.set("incidents", "repeat", "'update'");
    site.set("incidents", "storm", "false");
    let gateway = site.start();
    let samples = mails(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail"));
    assert!(samples.len() > 100, "the sample mails were not found");

    let mut command =
        site.command(&["explain", "--json", "--from", "sender@example.org", "--to", "soc@example.org"]);
    let explained = command.args(&samples).output().unwrap();
    assert!(explained.status.success(), "{}", String::from_utf8_lossy(&explained.stderr));
    let explained = String::from_utf8(explained.stdout).unwrap();
    let mut lines = explained.lines();

    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO packs.example").unwrap();
    let mut dropped = 0;
    let mut holders = BTreeSet::new();
    for path in samples {
        let foretold: Value = serde_json::from_str(lines.next().expect("one line a mail")).unwrap();
        let before = standin.taken();
        let reply = send(&mut smtp, &fs::read(&path).unwrap());
        assert!(reply.starts_with("250 2.0.0 queued as "), "{}: {reply}", path.display());
        let mut payloads: Vec<String> =
            foretold["events"].as_array().unwrap().iter().map(|event| event["payload"].to_string()).collect();
        dropped += usize::from(payloads.is_empty());
        let posted = standin.wait_for_events(before + payloads.len() as u64);
        let posted = tokio::time::timeout(PATIENCE, posted).await.unwrap_or_else(|_| {
            panic!("{}: not all events came; {payloads:?} were foretold", path.display())
        });
        let mut posted: Vec<String> = posted[usize::try_from(before).unwrap()..]
            .iter()
            .map(|event| with_its_key(event.payload.clone(), &foretold["events"], &holders).to_string())
            .collect();
        holders.extend(foretold["events"].as_array().unwrap().iter().filter_map(holder));
        // Events of one mail that are of different incidents leave side by side.
        payloads.sort();
        posted.sort();
        assert_eq!(payloads, posted, "{}", path.display());
    }
    let kept =
        site.command(&["queue", "list", "--state", "dropped", "--json", "--limit", "1000"]).output().unwrap();
    assert_eq!(String::from_utf8(kept.stdout).unwrap().lines().count(), dropped, "dropped mails are listed");
    assert!(dropped > 0, "no sample is dropped");
    gateway.stop();
}
