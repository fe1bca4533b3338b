//! The commands for those who write rules, as the real program runs them: `rules test`, `rules new`,
//! `backtest`, `explain --diff`, and what `check` and `run` make of an example that fails.

#![allow(clippy::unwrap_used)]

mod difference;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{program, run};
use tempfile::TempDir;

/// A folder with a config, in which the program runs.
struct Folder(TempDir);

impl Folder {
    /// One whose site has `rules` in `site.toml`.
    fn new(rules: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("secret", "abc123");
        folder.write("site.toml", rules);
        folder.write(
            "smtp2signl4.toml",
            "[smtp]\nlisten = ['127.0.0.1:0']\n[signl4]\nsecret-file = 'secret'\n[spool]\npath = 'spool'\n\
             [rules]\npaths = ['site.toml']\n",
        );
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).args(["--config", "smtp2signl4.toml"]);
        command.env_clear().current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    /// What the program writes and how it ends.
    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The exit code, and what is written to standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.output(arguments);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

/// A rule file whose example expects this title and status.
fn rules(title: &str, status: &str) -> String {
    format!(
        "version = 1\n[source]\nname = \"Backup\"\nwhen = {{ subject = '^\\[(?<result>[A-Z]+)\\] (?<job>.+)$' }}\n\
         [[rule]]\nname = \"the title\"\nset = {{ title = \"Backup {{{{ job }}}}\", external-id = \"backup:{{{{ job }}}}\" }}\n\
         [[example]]\nmail = \"\"\"\nFrom: nas@soc.example\nSubject: [FAILED] tape\n\nx\n\"\"\"\n\
         expect = {{ title = \"{title}\", status = \"{status}\", severity = {{ present = true }} }}\n"
    )
}

fn good() -> String {
    rules("Backup tape", "new").replace(", severity = { present = true }", "")
}

#[test]
fn rules_whose_examples_pass_are_said_to_pass() {
    let folder = Folder::new(&good());
    let (code, out, _) = folder.run(&["rules", "test", "-v"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("passed  site.toml:9: inline mail\n"), "{out}");
    let last = out.lines().last().unwrap();
    assert!(last.contains(" passed, 0 failed, ") && last.contains(" skipped (shipped;"), "{last}");
    assert!(out.contains("\nthe site's: 1 of 1 passed\n") && out.contains(" (shipped)\n"), "{out}");
    assert_eq!(folder.run(&["check"]).0, Some(0));
}

#[test]
fn an_example_that_fails_shows_each_field_with_its_place_and_the_rule_that_set_it() {
    let folder = Folder::new(&rules("Backup disk", "resolved"));
    let (code, out, _) = folder.run(&["rules", "test"]);
    assert_eq!(code, Some(65), "{out}");
    let expected = "\
FAILED  site.toml:9: inline mail
  title, line 15, column 20
    expected  Backup disk
    came out  Backup tape
    set by    Backup: the title
  status, line 15, column 44
    expected  resolved
    came out  new
  severity, line 15, column 67
    expected  any value
    came out  not set
";
    assert!(out.starts_with(expected), "{out}");
    assert!(out.lines().last().unwrap().contains(" passed, 1 failed"), "{out}");
}

#[test]
fn a_failing_example_is_an_error_of_the_rules_for_check_and_for_the_service() {
    let folder = Folder::new(&rules("Backup disk", "new").replace(", severity = { present = true }", ""));
    let expected = "\
site.toml:15:20: `title` is `Backup tape`
 15 | expect = { title = \"Backup disk\", status = \"new\" }
    |                    ^^^^^^^^^^^^^
  help: it is expected otherwise; `explain` shows which rule set it

1 error found
";
    assert_eq!(folder.run(&["check"]), (Some(78), String::new(), expected.to_owned()));
    let (code, _, told) = folder.run(&["run"]);
    assert_eq!((code, told.ends_with(expected)), (Some(78), true), "{told}");
    // Whoever looks for the reason must be able to.
    folder.write("a.eml", "From: nas@soc.example\nSubject: [FAILED] tape\n\nx\n");
    assert_eq!(folder.run(&["explain", "a.eml"]).0, Some(0));
}

#[test]
fn the_mail_of_an_example_is_read_from_the_folder_of_the_rule_file() {
    let text = good();
    let (head, tail) = text.split_once("mail = \"\"\"").unwrap();
    let (_, tail) = tail.split_once("\"\"\"\n").unwrap();
    let folder = Folder::new(&format!("{head}mail = \"mails/tape.eml\"\n{tail}"));
    let (code, _, told) = folder.run(&["check"]);
    assert_eq!(code, Some(78));
    assert!(
        told.starts_with("site.toml:9:8: the mail of the example cannot be read: mails/tape.eml: "),
        "{told}"
    );
    let (code, out, _) = folder.run(&["rules", "test"]);
    assert_eq!((code, out.contains("the mail cannot be read: mails/tape.eml: ")), (Some(65), true), "{out}");
    fs::create_dir(folder.path("mails")).unwrap();
    folder.write("mails/tape.eml", "From: nas@soc.example\nSubject: [FAILED] tape\n\nx\n");
    assert_eq!(folder.run(&["check"]).0, Some(0));
}

#[test]
fn in_the_source_tree_every_shipped_example_is_run() {
    let folder = Folder::new(&good());
    let mut command = Command::new(program());
    command.args(["rules", "test", "-v", "--config"]).arg(folder.path("smtp2signl4.toml"));
    command.env_clear().current_dir(env!("CARGO_MANIFEST_DIR"));
    let out = run(command, "");
    assert!(out.lines().last().unwrap().ends_with(" passed, 0 failed"), "{out}");
}

/// The names of all elements, if the document is well-formed as far as its tags, attributes and references go.
fn elements(xml: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").expect("a declaration");
    let sound = |text: &str| {
        text.split('&').skip(1).all(|reference| {
            let name = reference.split(';').next().unwrap();
            ["amp", "lt", "gt", "quot", "apos", "#10", "#9"].contains(&name)
        })
    };
    while let Some(at) = rest.find('<') {
        assert!(sound(&rest[..at]) && !rest[..at].contains('>'), "{}", &rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let name = tag.trim_end_matches('/').split(' ').next().unwrap().to_owned();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(tag.split('"').skip(1).step_by(2).all(sound), "{tag}");
        all.push(name.clone());
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    all
}

#[test]
fn the_junit_report_is_well_formed_and_holds_every_example() {
    let folder = Folder::new(&rules("Backup <disk> & ]]>", "new"));
    let (code, out, _) = folder.run(&["rules", "test", "--junit", "report.xml"]);
    assert_eq!(code, Some(65), "{out}");
    let xml = fs::read_to_string(folder.path("report.xml")).unwrap();
    let elements = elements(&xml);
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    assert_eq!(count("testsuites"), 1);
    assert_eq!(count("failure"), 1);
    assert!(count("testcase") > 1, "shipped examples are listed too");
    assert!(xml.contains("site.toml:15:20: `title` is `Backup tape`"), "{xml}");
}

/// Every mail in `tests/mail`.
fn mails(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            mails(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "eml") {
            found.push(path);
        }
    }
}

#[test]
fn what_rules_new_writes_passes_as_it_is_whatever_the_mail() {
    let folder = Folder::new("version = 1\n[source]\nname = \"Empty\"\n");
    let mut all = Vec::new();
    mails(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail"), &mut all);
    fs::create_dir(folder.path("new")).unwrap();
    // Each loads all rules twice, so both cores have their share.
    let check = |from: usize| {
        let mut written = 0;
        for (at, mail) in all.iter().enumerate().skip(from).step_by(2) {
            let file = format!("new/{at}.toml");
            let (code, _, told) =
                folder.run(&["rules", "new", "--from", mail.to_str().unwrap(), "-o", &file]);
            if code == Some(0) {
                written += 1;
                let (code, out, told) = folder.run(&["rules", "test", "-v", &file]);
                assert_eq!(code, Some(0), "{}:\n{out}{told}", mail.display());
                assert!(out.contains(&format!("\npassed  {file}:")), "{}:\n{out}", mail.display());
            } else {
                assert!(told.contains("there is nothing to tell it by"), "{}: {told}", mail.display());
            }
        }
        written
    };
    let written: usize = std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|from| {
                scope.spawn({
                    let check = &check;
                    move || check(from)
                })
            })
            .collect();
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert!(written + 2 > all.len(), "{written} of {}", all.len());
}

#[test]
fn a_first_rule_file_from_a_pair_closes_what_it_opened_and_no_other() {
    let folder = Folder::new("version = 1\n[source]\nname = \"Empty\"\n");
    let mail = |subject: &str| format!("From: Watch <watch@soc.example>\nSubject: {subject}\n\nx\n");
    folder.write("down.eml", &mail("Pump 17 of plant north is leaking"));
    folder.write("up.eml", &mail("Pump 17 of plant north is tight"));
    folder.write("other.eml", &mail("Pump 18 of plant north is tight"));
    let pair = ["rules", "new", "--from", "down.eml", "--closed-by", "up.eml", "-o", "new.toml"];
    let (code, out, told) = folder.run(&pair);
    assert_eq!((code, out.starts_with("new.toml: go over it")), (Some(0), true), "{told}");
    let text = fs::read_to_string(folder.path("new.toml")).unwrap();
    assert!(text.contains("mail = \"down.eml\"") && text.contains("mail = \"up.eml\""), "{text}");
    fs::rename(folder.path("new.toml"), folder.path("site.toml")).unwrap();
    let (code, out, _) = folder.run(&["explain", "--json", "down.eml", "up.eml", "other.eml"]);
    assert_eq!(code, Some(0));
    let made: Vec<(String, String)> = out
        .lines()
        .map(|line| {
            let mail: Value = serde_json::from_str(line).unwrap();
            let payload = &mail["events"][0]["payload"];
            let text = |key: &str| payload[key].as_str().unwrap().to_owned();
            (text("X-S4-Status"), text("X-S4-ExternalID"))
        })
        .collect();
    assert_eq!(made[0], ("new".into(), "watch:pump-17-of-plant-north-is".into()));
    assert_eq!(made[1], ("resolved".into(), made[0].1.clone()));
    assert_ne!(made[2].1, made[0].1, "the recovery of another pump closes another alert");
}

#[test]
fn a_first_rule_file_from_one_mail_never_closes() {
    let folder = Folder::new("version = 1\n[source]\nname = \"Empty\"\n");
    for (at, subject) in [
        "db01: OK -> CRIT",
        "Tank 3 changed from normal to failed",
        "Feed 7 is no longer OK",
        "Success rate of shop below 50%",
        "Follow-up needed for door 9",
        "Link eth0 is up",
        "RESOLVED: pump 17",
        "Ticket #4711 closed",
    ]
    .into_iter()
    .enumerate()
    {
        folder.write("one.eml", &format!("From: Watch <watch@soc.example>\nSubject: {subject}\n\nx\n"));
        let file = format!("{at}.toml");
        let (code, _, told) = folder.run(&["rules", "new", "--from", "one.eml", "-o", &file]);
        assert_eq!(code, Some(0), "{subject}: {told}");
        let text = fs::read_to_string(folder.path(&file)).unwrap();
        let rules = text.lines().filter(|line| !line.starts_with('#')).collect::<String>();
        assert!(!rules.contains("resolved"), "{subject}:\n{text}");
    }
}

#[test]
fn a_mark_makes_no_known_product_of_a_mail() {
    let folder = Folder::new("version = 1\n[source]\nname = \"Empty\"\n");
    for (file, subject) in [("down.eml", "PROBLEM: pump 17 leaks"), ("up.eml", "RESOLVED: pump 17 leaks")] {
        folder.write(file, &format!("From: Watch <watch@soc.example>\nSubject: {subject}\n\nx\n"));
    }
    let (code, _, told) = folder.run(&["rules", "new", "--from", "up.eml", "-o", "one.toml"]);
    assert_eq!((code, told.contains("know this mail")), (Some(0), false), "{told}");
    let pair = ["rules", "new", "--from", "down.eml", "--closed-by", "up.eml", "-o", "pair.toml"];
    assert_eq!(folder.run(&pair).0, Some(0));
    let text = fs::read_to_string(folder.path("pair.toml")).unwrap();
    assert!(text.contains("set = { status = \"resolved\" }"), "{text}");
    let (code, out, told) = folder.run(&["rules", "test", "pair.toml"]);
    assert_eq!(code, Some(0), "{out}{told}");
}

#[test]
fn a_pair_that_only_a_person_can_read_is_refused_and_a_known_product_is_named() {
    let folder = Folder::new("version = 1\n[source]\nname = \"Empty\"\n");
    let mail = |subject: &str| format!("From: Watch <watch@soc.example>\nSubject: {subject}\n\nx\n");
    folder.write("a.eml", &mail("db01: OK -> CRIT"));
    folder.write("b.eml", &mail("db01: CRIT -> OK"));
    let (code, _, told) =
        folder.run(&["rules", "new", "--from", "a.eml", "--closed-by", "b.eml", "-o", "new.toml"]);
    assert_eq!(code, Some(65), "{told}");
    assert!(told.contains("which is the old one"), "{told}");
    assert!(!folder.path("new.toml").exists());

    folder.write("nagios.eml", &mail("** PROBLEM Host Alert: web01 is DOWN **"));
    let (code, _, told) = folder.run(&["rules", "new", "--from", "nagios.eml", "-o", "known.toml"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("The shipped rules know this mail: Nagios"), "{told}");
    let text = fs::read_to_string(folder.path("known.toml")).unwrap();
    assert!(!text.contains("set = { status"), "it would take the close from the shipped rules:\n{text}");
    assert!(text.contains("external-id = \"nagios:web01\""), "{text}");
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    let folder = Folder::new(&good());
    folder.write("a.eml", "From: x@soc.example\nSubject: y\n\nz\n");
    let (code, _, told) = folder.run(&["rules", "new", "--from", "a.eml", "-o", "site.toml"]);
    assert_eq!((code, fs::read_to_string(folder.path("site.toml")).unwrap()), (Some(65), good()), "{told}");
}

#[test]
fn a_mail_from_a_pipe_stands_in_the_file_that_is_written() {
    let folder = Folder::new("version = 1\n[source]\nname = \"Empty\"\n");
    let mut command = folder.command(&["rules", "new", "--from", "-", "--name", "Ours"]);
    command.stdin(Stdio::piped());
    let text = run(command, "From: x@soc.example\nSubject: a \"b\" \\ 'c' #4711\n\n\"\"\"\u{1b}\n");
    folder.write("new.toml", &text);
    let (code, out, told) = folder.run(&["rules", "test", "new.toml"]);
    assert_eq!((code, text.contains("ours:{{ id }}")), (Some(0), true), "{text}{out}{told}");
}
