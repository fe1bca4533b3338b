//! What other rules would change: of the mails that came, by `backtest`, and of one, by `explain --diff`.

use std::fs;

use serde_json::Value;

use super::support::{Process, Site, run, standin};
use super::{Folder, good};

/// Rules that drop, close, move and leave alone.
const OTHERS: &str = r#"version = 1
[source]
name = "Others"

[[rule]]
name = "no newsletters"
when = { subject = '^Newsletter' }
drop = "a newsletter"

[[rule]]
name = "it is over"
when = { subject = '^(?<what>\S+) works again$' }
set = { status = "resolved", external-id = "{{ what }}" }

[[rule]]
name = "fires are for the fire brigade"
when = { subject = '^Fire' }
set = { service = "Fire brigade", severity = "critical" }
"#;

const CAME: [&str; 5] =
    ["Newsletter", "db01 works again", "Fire in \u{1b}[31mroom 1", "Fire in room 2", "Hello"];

/// What a backtest counts, by the name of the change.
fn counts(report: &Value) -> Vec<u64> {
    ["lost", "added", "closed", "rerouted", "rekeyed", "unchanged"]
        .map(|change| report["changes"][change].as_u64().unwrap())
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_counts_what_other_rules_would_change_with_and_without_a_service() {
    let standin = standin().await;
    let site = Site::new(&standin);
    fs::write(site.path("others.toml"), OTHERS).unwrap();
    let others = site.path("others.toml").to_str().unwrap().to_owned();
    let missing = Process::spawn(site.command(&["backtest", &others]), "").wait();
    assert_eq!(missing.code(), Some(69), "there is no spool yet");
    for subject in CAME {
        run(
            site.command(&["submit", "soc@example.org"]),
            &format!("From: a@soc.example\nSubject: {subject}\n\nx\n"),
        );
    }
    let report = |arguments: &[&str]| -> Value {
        let all = [&["backtest", "--json", &others], arguments].concat();
        serde_json::from_str(&run(site.command(&all), "")).unwrap()
    };
    let stopped = report(&[]);
    assert_eq!((stopped["mails"].as_u64(), stopped["mails-changed"].as_u64()), (Some(5), Some(4)));
    assert_eq!(counts(&stopped), [1, 0, 1, 2, 0, 1]);
    let held = |rule: &str| {
        let rules = stopped["rules"].as_array().unwrap();
        rules.iter().find(|entry| entry["rule"] == rule).map(|entry| entry["after"].as_u64().unwrap())
    };
    assert_eq!(held("Others: fires are for the fire brigade"), Some(2));
    let samples = stopped["samples"].as_array().unwrap();
    let lost = samples.iter().find(|sample| sample["change"] == "lost").unwrap();
    assert_eq!(lost["subject"], "Newsletter");
    assert_eq!(lost["after"]["dropped"], "Others: no newsletters: a newsletter");
    let moved: Vec<&str> = samples
        .iter()
        .filter(|sample| sample["change"] == "rerouted")
        .map(|sample| sample["subject"].as_str().unwrap())
        .collect();
    assert_eq!(moved.first(), Some(&"Fire in room 2"), "the latest comes first");

    let gateway = site.start();
    let running = report(&[]);
    assert_eq!((counts(&running), &running["samples"]), (counts(&stopped), &stopped["samples"]));
    assert_eq!(report(&["--limit", "1"])["mails"], 1);
    assert_eq!(report(&["--since", "7d"])["mails"], 5);
    assert_eq!(report(&["--since", "0s"])["mails"], 0);
    gateway.stop();

    let page = run(site.command(&["backtest", &others]), "");
    assert!(page.starts_with("5 mails judged twice in "), "{page}");
    for line in [
        "  pages lost                1",
        "    after   dropped by Others: no newsletters: a newsletter",
        "    X-S4-Service: nothing → \"Fire brigade\"",
        "        0         2  Others: fires are for the fire brigade",
    ] {
        assert!(page.lines().any(|other| other == line), "no line {line:?} in:\n{page}");
    }
    assert!(!page.contains('\u{1b}'), "a subject cannot steer the terminal");
    fs::write(site.path("others.toml"), "version = 1\n").unwrap();
    assert_eq!(Process::spawn(site.command(&["backtest", &others]), "").wait().code(), Some(78));
}

#[test]
fn explain_shows_what_other_rules_would_change_and_which_rule_does_it() {
    let folder = Folder::new(&good());
    folder.write("others.toml", OTHERS);
    folder.write("a.eml", "From: a@soc.example\nSubject: Fire in room 1\n\nx\n");
    let (code, out, _) = folder.run(&["explain", "--diff", "others.toml", "a.eml"]);
    let expected = "
Difference, for team default
  + held: Others: fires are for the fire brigade
  event \"Fire in room 1\": re-routed
    X-S4-Service: nothing → \"Fire brigade\"
      set by no rule → Others: fires are for the fire brigade
    Severity: nothing → \"critical\"
      set by no rule → Others: fires are for the fire brigade

";
    assert_eq!(code, Some(0));
    assert!(out.ends_with(expected), "{out}");
    let (_, out, _) = folder.run(&["explain", "--json", "--diff", "others.toml", "a.eml"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["diff"][0]["events"][0]["fields"][0]["field"], "X-S4-Service");
    let (_, out, _) = folder.run(&["explain", "--json", "a.eml"]);
    assert!(!out.contains("\"diff\""));
    let (_, out, _) = folder.run(&["explain", "--diff", "site.toml", "a.eml"]);
    assert!(
        out.ends_with("Difference, for team default\n  event \"Fire in room 1\": unchanged\n  none\n\n"),
        "{out}"
    );
}

#[test]
fn a_change_of_repeats_or_of_files_alone_is_shown() {
    let folder = Folder::new(&good());
    let rule = |set: &str| {
        format!("version = 1\n[source]\nname = \"Ours\"\n[[rule]]\nname = \"all\"\nset = {{ {set} }}\n")
    };
    folder.write("quiet.toml", &rule("repeat = \"update\", quiet = \"1h\""));
    folder.write("files.toml", &rule("attach = [\"image\"]"));
    folder.write(
        "a.eml",
        "From: a@soc.example\nSubject: Fire\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n\
         Content-Type: image/png; name=shot.png\nContent-Transfer-Encoding: base64\n\n\
         iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=\n--b--\n",
    );
    let (_, out, problems) = folder.run(&["explain", "--diff", "quiet.toml", "a.eml"]);
    let expected = "
  event \"Fire\": with other repeats
    repeat: nothing → \"update\"
      set by no rule → Ours: all
    quiet: nothing → \"1h\"
      set by no rule → Ours: all
";
    assert!(out.contains(expected), "{out}{problems}");
    let (_, out, problems) = folder.run(&["explain", "--diff", "files.toml", "a.eml"]);
    assert!(
        out.contains("    files: nothing → \"shot.png\"\n      set by no rule → Ours: all\n"),
        "{out}{problems}"
    );
    folder.write("site.toml", &rule("repeat = \"update\", quiet = \"1h\""));
    let (_, out, _) = folder.run(&["explain", "a.eml"]);
    assert!(out.contains("  repeat = \"update\"\n  quiet = \"1h\"\n"), "{out}");
}
