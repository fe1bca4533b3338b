//! Dirt costs nothing: whatever mail systems and a forwarder whom the site names do to a mail of a sender that is known,
//! it is judged as the mail that its sender wrote.
//!
//! The mails are the examples of the shipped packs and the samples of `tests/mail`; the dirt is made of them here.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod kinds;
mod mime;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use kinds::Dirt;
use mime::{Part, Transfer};
use smtp2signl4::config;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::mail::{Client, Envelope, Message, Origin};
use smtp2signl4::rules::{Example, ExampleMail, RuleSet, Subject, shipped};

/// What must not change of an event.
#[derive(Debug, PartialEq, Clone)]
struct Essence {
    key: Option<String>,
    status: String,
    severity: Option<String>,
    service: Option<String>,
    color: Option<String>,
    product: Option<String>,
    instance: String,
    title: String,
}

/// What a mail comes to: events, or the reason why it pages nobody.
type Outcome = Result<Vec<Essence>, String>;

/// A mail as its sender wrote it.
struct Sample {
    name: String,
    /// With LF.
    raw: String,
    example: Option<Example>,
    untouched: Outcome,
    part: Part,
}

/// What dirt does cost: why it must be, what is in the name of the kind of dirt, and the mails.
const COSTS: &[(&str, &str, &[&str])] = &[
    ("only the HTML version has the id", "only the plain version", &["tests/mail/prtg/recovery.eml"]),
    (
        "parameters in a mail that is passed on steer nothing",
        "forwarded as",
        &["tests/mail/signl4/header.eml", "tests/mail/xsoar/header-closed.eml"],
    ),
    (
        "it was forwarded before, by somebody whom the site does not name",
        "forwarded",
        &["tests/mail/forwarded/rfc822-only.eml", "tests/mail/forwarded/rfc822-with-note.eml"],
    ),
    (
        "what it is known by is not in its text: a thread, an id, parameters, another version of the text",
        "forwarded by",
        &[
            "rules/25-thehive4-other.toml example 1",
            "rules/25-thehive4-other.toml example 6",
            "rules/32-zabbix.toml example 18",
            "rules/32-zabbix.toml example 20",
            "rules/33-alertmanager.toml example 8",
            "rules/33-alertmanager.toml example 9",
            "rules/89-marks.toml example 10",
            "rules/95-answers.toml example 1",
            "rules/95-answers.toml example 4",
            "tests/mail/encrypted/signed-with-protected-subject.eml",
            "tests/mail/forwarded/inline-reply.eml",
            "tests/mail/malformed/dates-and-ids.eml",
            "tests/mail/prtg/recovery.eml",
            "tests/mail/prtg/summary.eml",
            "tests/mail/signl4/header.eml",
            "tests/mail/xsoar/header-closed.eml",
            "tests/mail/zabbix/acknowledged-text.eml",
            "tests/mail/zabbix/closed-text.eml",
        ],
    ),
    (
        "the same, of mails that have no plain version",
        "as HTML",
        &[
            "tests/mail/alertmanager/threaded-firing.eml",
            "tests/mail/alertmanager/threaded-resolved.eml",
            "tests/mail/zabbix/acknowledged.eml",
            "tests/mail/zabbix/service-changed.eml",
            "tests/mail/zabbix/updated.eml",
        ],
    ),
    (
        "files and what is encrypted do not go along within a text",
        "forwarded by",
        &[
            "tests/mail/attachments/names.eml",
            "tests/mail/attachments/winmail-dat.eml",
            "tests/mail/encrypted/pgp-inline.eml",
        ],
    ),
    (
        "two blanks part the status from the message in PRTG's subject, and HTML shows one",
        "as HTML",
        &[
            "rules/35-prtg-languages.toml example 1",
            "rules/35-prtg-languages.toml example 4",
            "rules/35-prtg-languages.toml example 6",
            "rules/35-prtg-languages.toml example 7",
            "rules/35-prtg.toml example 18",
            "tests/mail/prtg/down-text.eml",
            "tests/mail/prtg/down.eml",
            "tests/mail/prtg/message-lies.eml",
            "tests/mail/prtg/name-lies.eml",
            "tests/mail/prtg/warning.eml",
        ],
    ),
    ("nothing else in it can be read, so that it is shown", "banner", UNREADABLE),
    ("nothing else in it can be read, so that it is shown", "disclaimer", UNREADABLE),
    ("nothing else in it can be read, so that it is shown", "footer", UNREADABLE),
    (
        "nothing else in it can be read, so that it is shown",
        "footer in a part of its own",
        &["tests/mail/encrypted/smime-opaque-signed.eml"],
    ),
];

const UNREADABLE: &[&str] = &["tests/mail/attachments/winmail-dat.eml"];

static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    let site = format!("[[mail.forwarder]]\nfrom = '{}'\nunwrap = true\n", kinds::FORWARDER);
    let config = config::parse(None, &Source::new("site", &*site)).unwrap();
    RuleSet::load(&shipped(), config.site()).unwrap()
});

/// The mails that can be made dirty, and the names of those that cannot.
static SAMPLES: LazyLock<(Vec<Sample>, Vec<String>)> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut hard, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut take = |name: String, content: Vec<u8>, example: Option<Example>| match sample(&content, example)
    {
        Some(sample) => found.push(Sample { name, ..sample }),
        None => hard.push(name),
    };
    for (at, example) in RULES.examples().enumerate() {
        let path = &example.source().path;
        match example.mail() {
            ExampleMail::Inline(text) => {
                let before = RULES.examples().take(at).filter(|other| other.source().path == *path).count();
                let name = format!("{path} example {}", before + 1);
                take(name, text.clone().into_bytes(), Some(example.clone()));
            }
            ExampleMail::File(path) => {
                let name = path.trim_start_matches("../").to_owned();
                take(name.clone(), fs::read(root.join("rules").join(path)).unwrap(), Some(example.clone()));
                seen.insert(name);
            }
        }
    }
    for path in mails(&root.join("tests/mail")) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if !seen.contains(&name) {
            take(name, fs::read(&path).unwrap(), None);
        }
    }
    (found, hard)
});

/// Every `.eml` below `folder`, in order.
fn mails(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.flat_map(|path| if path.is_dir() { mails(&path) } else { vec![path] }).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    found.sort();
    found
}

/// The sample of a mail that can be taken apart and written again without changing what it comes to.
fn sample(content: &[u8], example: Option<Example>) -> Option<Sample> {
    let raw = String::from_utf8(content.to_vec()).ok()?.replace("\r\n", "\n");
    let untouched = judged(raw.as_bytes(), example.as_ref());
    let part = Part::read(raw.as_bytes())?;
    let same = judged(&part.write(Transfer::Bits8, "=_untouched"), example.as_ref()) == untouched;
    same.then(|| Sample { name: String::new(), raw, example, untouched, part })
}

/// How a mail comes that is no example: from a machine of the site.
fn envelope(message: &Message) -> Envelope {
    let client = Client { address: Some([10, 1, 2, 3].into()), ..Client::default() };
    Envelope {
        origin: Origin::Smtp,
        client,
        reverse_path: message.from.first().map(|from| from.address.clone()).unwrap_or_default(),
        recipients: vec!["soc@gw.example".to_owned()],
        ..Envelope::default()
    }
}

fn judged(content: &[u8], example: Option<&Example>) -> Outcome {
    let message = RULES.read(content);
    let envelope = example.map_or_else(|| envelope(&message), |example| example.envelope(&message));
    let judgement = RULES.judge(&Subject { message: &message, envelope: &envelope, team: "example" });
    if let Some(dropped) = judgement.dropped {
        return Err(dropped.reason);
    }
    let essence = |event: smtp2signl4::event::Event| Essence {
        key: event.external_id,
        status: event.status.to_string(),
        severity: event.severity.map(|severity| severity.to_string()),
        service: event.service,
        color: event.color,
        product: event.source_system,
        instance: event.identity.instance,
        title: event.title,
    };
    Ok(judgement.events.into_iter().map(essence).collect())
}

/// What is different, in a line.
fn difference(was: &Outcome, is: &Outcome) -> String {
    let (was, is) = match (was, is) {
        (Ok(was), Ok(is)) if was.len() == is.len() => (was, is),
        _ => return format!("{was:?} became {is:?}"),
    };
    let mut found = String::new();
    for (was, is) in was.iter().zip(is) {
        let fields = |of: &Essence| {
            [
                ("key", of.key.clone()),
                ("status", Some(of.status.clone())),
                ("severity", of.severity.clone()),
                ("service", of.service.clone()),
                ("color", of.color.clone()),
                ("product", of.product.clone()),
                ("instance", Some(of.instance.clone())),
                ("title", Some(of.title.clone())),
            ]
        };
        for ((name, was), (_, is)) in fields(was).into_iter().zip(fields(is)) {
            if was != is {
                found.push_str(&format!(" {name} {was:?} -> {is:?};"));
            }
        }
    }
    found
}

/// Holds that none of these kinds of dirt changes what a mail comes to, but where it must.
fn changes_nothing(kinds: &[Dirt]) {
    let mut failed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut needed = BTreeSet::new();
    let (mut tried, mut wrong) = (0, 0);
    for sample in &SAMPLES.0 {
        for (kind, dirt) in kinds {
            let Some(dirty) = dirt(&sample.part, &sample.raw) else { continue };
            tried += 1;
            let outcome = judged(&dirty, sample.example.as_ref());
            if outcome == sample.untouched {
                continue;
            }
            let costs = COSTS.iter().enumerate().filter(|(_, (_, of, _))| kind.contains(of));
            let known = costs.filter_map(|(at, (_, _, names))| {
                names.iter().position(|name| *name == sample.name).map(|name| (at, name))
            });
            let known: Vec<_> = known.collect();
            needed.extend(known.iter().copied());
            if !known.is_empty() {
                continue;
            }
            wrong += 1;
            let line = format!("{}:{}", sample.name, difference(&sample.untouched, &outcome));
            failed.entry(kind).or_default().push(line);
        }
    }
    let mut told = String::new();
    for (kind, lines) in failed {
        told.push_str(&format!("{kind} ({}):\n  {}\n", lines.len(), lines.join("\n  ")));
    }
    assert!(told.is_empty(), "{wrong} of {tried}:\n{told}");
    assert!(tried > 400, "only {tried} mails were made dirty");
    for (at, (_, of, names)) in COSTS.iter().enumerate() {
        let here = kinds.iter().any(|(kind, _)| kind.contains(of));
        let spare = names.iter().enumerate().find(|(name, _)| here && !needed.contains(&(at, *name)));
        assert!(spare.is_none(), "`{of}` costs this mail nothing any more: {spare:?}");
    }
}

#[test]
fn a_tag_in_front_of_the_subject_changes_nothing() {
    changes_nothing(kinds::TAGS);
}

#[test]
fn a_banner_above_the_text_changes_nothing() {
    changes_nothing(kinds::BANNERS);
}

#[test]
fn a_footer_below_the_text_changes_nothing() {
    changes_nothing(kinds::FOOTERS);
}

#[test]
fn html_in_the_place_of_the_text_changes_nothing() {
    changes_nothing(kinds::HTML_ONLY);
}

#[test]
fn mime_that_was_written_anew_changes_nothing() {
    changes_nothing(kinds::REWRITTEN);
}

#[test]
fn links_that_were_rewritten_change_nothing() {
    changes_nothing(kinds::LINKS);
}

#[test]
fn a_forwarder_whom_the_site_names_changes_nothing() {
    changes_nothing(kinds::FORWARDED);
}

#[test]
fn nearly_every_mail_can_be_made_dirty() {
    let (found, hard) = &*SAMPLES;
    assert!(found.len() > 300 && hard.len() * 20 < found.len(), "{}, not:\n{}", found.len(), hard.join("\n"));
}
