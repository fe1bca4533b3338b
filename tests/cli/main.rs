//! The command line as an operator meets it: what each command says, where, and with which exit code.

#![allow(clippy::unwrap_used)]

mod log;
mod queue;
#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use smtp2signl4::standin::{Options, Standin};
use support::{PATIENCE, Site, Smtp};

/// Runs `command` with `input` and returns what became of it.
fn run(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The program without a site.
fn bare(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp2signl4"));
    command.args(arguments).env_clear();
    run(command, "")
}

fn sample(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail").join(path)
}

async fn stage() -> (Standin, Site) {
    let standin = Standin::start(Options::default()).await.unwrap();
    let site = Site::new(&standin);
    (standin, site)
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in ["run", "demo", "check", "explain", "submit", "send", "close", "queue", "mute", "expect"] {
        let help = bare(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0), "{command}");
        let text = out(&help);
        assert!(text.contains("Example"), "{command} has no example:\n{text}");
    }
    assert!(out(&bare(&["--help"])).contains("Examples:"));
}

#[test]
fn a_wrong_command_line_is_64_and_a_missing_config_is_78() {
    assert_eq!(bare(&["fly"]).status.code(), Some(64));
    assert_eq!(bare(&["queue", "retry"]).status.code(), Some(64));
    let missing = bare(&["check", "--config", "/no/such/file.toml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(err(&missing).contains("/no/such/file.toml: cannot be read"), "{}", err(&missing));
}

#[test]
fn run_without_a_secret_says_how_to_give_one_and_names_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "").unwrap();
    let refused = bare(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(78));
    for part in ["secret-file", "SIGNL4_TEAM_SECRET", "credential", "smtp2signl4 demo"] {
        assert!(err(&refused).contains(part), "{part} is missing:\n{}", err(&refused));
    }
}

/// Each `tests/config/NAME.toml` is refused as `NAME.stderr` says. `BLESS=1` writes what is said today.

#[test]
fn a_wrong_config_is_told_with_its_places() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    names.sort();
    assert!(!names.is_empty(), "no wrong config was found");
    for path in names {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smtp2signl4"));
        command.current_dir(&folder).env_clear();
        command.args(["check", "--without-secrets", "--config"]).arg(path.file_name().unwrap());
        let refused = run(command, "");
        assert_eq!(refused.status.code(), Some(78), "{}", path.display());
        let golden = path.with_extension("stderr");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, err(&refused)).unwrap();
        }
        assert_eq!(err(&refused), std::fs::read_to_string(&golden).unwrap_or_default(), "{}", path.display());
    }
}

#[test]
fn a_listener_that_is_open_to_everybody_is_warned_about_at_its_place() {
    let check = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_smtp2signl4"));
        command.current_dir(&folder).env_clear().args(["check", "--without-secrets", "--config", "c.toml"]);
        let checked = run(command, "");
        assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
        err(&checked)
    };
    let told = check("[smtp]\nlisten = ['127.0.0.1:2525', '0.0.0.0:25']\n");
    let wanted = "warning: c.toml:2:29: everybody who reaches this address can page, in the clear and without a login\n \
                  2 | listen = ['127.0.0.1:2525', '0.0.0.0:25']\n   |                             ^^^^^^^^^^^^\n  \
                  help: give it a [[smtp.listener]] with `allow`, ";
    assert!(told.starts_with(wanted), "{told}");
    for closed in ["allow = '10.0.0.0/8'", "public = false"] {
        let listener = format!("[[smtp.listener]]\naddress = '0.0.0.0:25'\n{closed}\n");
        assert_eq!(check(&listener), "", "{closed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_gives_the_very_payload_that_the_service_posts() {
    let (standin, site) = stage().await;
    let gateway = site.start();
    for name in
        ["thehive5/case-closed.eml", "zabbix/problem.eml", "wazuh/single.eml", "malformed/no-header.eml"]
    {
        let before = standin.taken();
        let mut command =
            site.command(&["explain", "--json", "--from", "a@example.org", "--to", "soc@example.org"]);
        command.arg(sample(name));
        let explained: Value = serde_json::from_slice(&run(command, "").stdout).unwrap();
        let payloads: Vec<&Value> =
            explained["events"].as_array().unwrap().iter().map(|event| &event["payload"]).collect();
        assert!(!payloads.is_empty(), "{name}");

        let content = String::from_utf8_lossy(&std::fs::read(sample(name)).unwrap()).replace("\r\n", "\n");
        let mut smtp = Smtp::connect(gateway.address()).unwrap();
        smtp.say("EHLO cli.example").unwrap();
        let reply = smtp.mail("a@example.org", &["soc@example.org"], &content).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
        let wanted = before + payloads.len() as u64;
        let posted = tokio::time::timeout(PATIENCE, standin.wait_for_events(wanted)).await.unwrap();
        let posted: Vec<&Value> =
            posted[usize::try_from(before).unwrap()..].iter().map(|event| &event.payload).collect();
        assert_eq!(payloads, posted, "{name}");
    }
    gateway.stop();
}

#[test]
fn explain_takes_from_its_options_what_a_file_does_not_tell() {
    let status = |options: &[&str]| {
        let mail = sample("zabbix/resolved.eml");
        let arguments = [&["explain", "--json"], options, &[mail.to_str().unwrap()]].concat();
        let explained: Value = serde_json::from_slice(&bare(&arguments).stdout).unwrap();
        let status = &explained["events"][0]["payload"]["X-S4-Status"];
        (status.as_str().unwrap().to_owned(), explained["envelope"].clone())
    };
    assert_eq!(status(&[]).0, "resolved");
    assert_eq!(status(&["--client", "203.0.113.9"]).0, "new");
    assert_eq!(status(&["--client", "203.0.113.9", "--user", "zabbix"]).0, "resolved");
    assert_eq!(status(&["--client", "203.0.113.9", "--authenticated"]).0, "resolved");
    let (_, envelope) = status(&["--received", "2026-11-20T18:04:05+01:00"]);
    assert_eq!(envelope["received-at"], "2026-11-20T17:04:05Z");

    let page = bare(&["explain", "--client", "203.0.113.9", sample("zabbix/resolved.eml").to_str().unwrap()]);
    let says = "trust    stranger: nothing proves who sent it from outside";
    assert!(out(&page).contains(says), "{}", out(&page));
    let page = bare(&["explain", sample("zabbix/resolved.eml").to_str().unwrap()]);
    assert!(out(&page).contains("trust    trusted: the client and every hop"), "{}", out(&page));

    // What a relay wrote is in the file.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    std::fs::write(
        &config,
        "[rules]\nclosing-domains = 'soc.example'\n[authenticity]\ntrusted-authserv-ids = ['mx']\n",
    )
    .unwrap();
    let mail = folder.path().join("m.eml");
    let results = "Authentication-Results: mx; dkim=pass header.d=soc.example\nReceived: from a (a [203.0.113.9]) by mx\n";
    let signature = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=soc.example; s=s;\n \
                     h=from:to:in-reply-to:date:subject:mime-version:content-type:content-transfer-encoding;\n \
                     bh=dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=; b=c2lnbmF0dXJl\n";
    let explained = |head: &str| {
        let content = std::fs::read_to_string(sample("zabbix/resolved.eml")).unwrap();
        std::fs::write(&mail, format!("{head}{content}")).unwrap();
        out(&bare(&["explain", "--config", config.to_str().unwrap(), mail.to_str().unwrap()]))
    };
    let page = explained(&format!("{results}{signature}"));
    let told = "proof    spf=none dkim=pass (soc.example) dmarc=none arc=none; proves soc.example; by mx";
    assert!(page.contains(told), "{page}");
    assert!(page.contains("\"X-S4-Status\": \"resolved\""), "{page}");
    // Its word on a signature that is not there is worth nothing.
    let page = explained(results);
    assert!(page.contains("dkim=policy dmarc=none arc=none; proves nothing; by mx"), "{page}");
    assert!(page.contains("\"X-S4-Status\": \"new\""), "{page}");
}

#[test]
fn explain_tells_a_person_what_matched_and_what_was_set() {
    let explained = bare(&["explain", sample("thehive5/case-closed.eml").to_str().unwrap()]);
    let text = out(&explained);
    for part in ["Case #1208 closed", "✓", "status", "\"X-S4-Status\": \"resolved\"", "set by"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert_eq!(bare(&["explain", "/no/such.eml"]).status.code(), Some(65));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_wrong_rules_keeps_the_old_ones_and_says_so() {
    let (standin, mut site) = stage().await;
    let gateway = site.start();
    site.set("rules", "paths", "['missing.toml']");
    site.config();
    gateway.signal("HUP");
    gateway.process().wait_for("that says so", |line| line.contains("last good rules stay").then_some(()));
    run(site.command(&["queue", "list"]), "");
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    smtp.mail("a@example.org", &["soc@example.org"], "Subject: still here\n\nt\n").unwrap();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!(events[0].payload["Title"], "still here");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_spool_is_refused_with_the_pid_of_the_first() {
    let (_standin, site) = stage().await;
    let gateway = site.start();
    let second = run(site.command(&["run"]), "");
    assert_eq!(second.status.code(), Some(69));
    let pid = gateway.process().id().to_string();
    assert!(err(&second).contains(&pid), "{}", err(&second));
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_no_team_takes_is_refused_and_each_team_gets_its_own() {
    let (standin, mut site) = stage().await;
    site.unset("signl4", "secret-file");
    std::fs::write(site.path("soc"), "soc-secret").unwrap();
    std::fs::write(site.path("ops"), "ops-secret").unwrap();
    site.append(
        "[[team]]\nname = 'soc'\nsecret-file = 'soc'\nrecipients = ['soc@*']\n\
         [[team]]\nname = 'ops'\nsecret-file = 'ops'\nrecipients = ['ops']\n",
    );
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    let refused = smtp.mail("a@example.org", &["nobody@example.org"], "Subject: x\n\nt\n").unwrap();
    assert!(refused.starts_with("550 5.1.1 "), "{refused}");
    smtp.say("RSET").unwrap();
    let taken = smtp.mail("a@example.org", &["soc+db@example.org", "OPS@x"], "Subject: x\n\nt\n").unwrap();
    assert!(taken.starts_with("250 2.0.0 "), "{taken}");
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    let mut secrets: Vec<&str> = events.iter().map(|event| event.secret.as_str()).collect();
    secrets.sort_unstable();
    assert_eq!(secrets, ["ops-secret", "soc-secret"]);
    let listing = out(&run(site.command(&["queue", "list", "--state", "all", "--json"]), ""));
    let log = gateway.stop().join("\n");
    for secret in secrets {
        assert!(!log.contains(secret) && !listing.contains(secret), "the secret is shown");
    }
}

#[test]
fn the_demo_shows_the_samples_and_ends_well() {
    let shown = bare(&["demo", "--once", "--listen", "127.0.0.1:0"]);
    assert_eq!(shown.status.code(), Some(0), "{}{}", out(&shown), err(&shown));
    for part in [
        "thehive5/case-closed.eml",
        "rule    ",
        "250 2.0.0 queued as",
        "\"X-S4-Status\": \"resolved\"",
        "counted a repeat",
    ] {
        assert!(out(&shown).contains(part), "{part} is missing:\n{}", out(&shown));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mail_tells_of_an_incident_again_is_told_again() {
    let (standin, mut site) = stage().await;
    std::fs::write(
        site.path("tunnel.toml"),
        "version = 1\n[source]\nname = 'Tunnel'\nsplit = '^tunnel (?:up|down)$'\nwhen = { subject = '^tunnels$' }\n\
         [[rule]]\nname = 'state'\nset = { title = 'Tunnel', message = 'Look', external-id = 'tunnel' }\n\
         [[rule]]\nname = 'up'\nwhen = { text = '^tunnel up$' }\nset = { status = 'resolved' }\n",
    )
    .unwrap();
    site.set("rules", "paths", "['tunnel.toml']");
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    let mail = "Subject: tunnels\n\ntunnel down\ntunnel up\ntunnel down\n";
    smtp.mail("a@example.org", &["soc@example.org"], mail).unwrap();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(3)).await.unwrap();
    let statuses: Vec<&str> = events.iter().map(|e| e.payload["X-S4-Status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["new", "resolved", "new"]);
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_that_a_rule_names_get_one_event_each_whoever_the_mail_is_for() {
    let (standin, mut site) = stage().await;
    site.unset("signl4", "secret-file");
    for team in ["soc", "ops"] {
        std::fs::write(site.path(team), format!("{team}-secret")).unwrap();
        site.append(&format!("[[team]]\nname = '{team}'\nsecret-file = '{team}'\nrecipients = ['{team}']\n"));
    }
    std::fs::write(
        site.path("both.toml"),
        "version = 1\n[source]\nname = 'Both'\n[[rule]]\nname = 'both'\nset = { team = ['soc', 'ops'] }\n",
    )
    .unwrap();
    site.set("rules", "paths", "['both.toml']");
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    smtp.mail("a@example.org", &["soc@x", "ops@x"], "Subject: for both\n\nt\n").unwrap();
    let fence = smtp.mail("a@example.org", &["soc@x"], "Subject: later\n\nt\n").unwrap();
    assert!(fence.starts_with("250 "), "{fence}");
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(4)).await.unwrap();
    gateway.stop();
    let mut told: Vec<String> =
        events.iter().map(|e| format!("{} {}", e.secret, e.payload["Title"].as_str().unwrap())).collect();
    told.sort_unstable();
    assert_eq!(told, ["ops-secret for both", "ops-secret later", "soc-secret for both", "soc-secret later"]);
    assert_eq!(standin.taken(), 4, "nobody is told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_rules_beside_the_config_is_the_sites_own() {
    let (_standin, site) = stage().await;
    std::fs::create_dir(site.path("rules")).unwrap();
    std::fs::write(
        site.path("rules/ours.toml"),
        "version = 1\n[source]\nname = 'Ours'\n[[rule]]\nname = 'ours'\nset = { title = 'Ours' }\n",
    )
    .unwrap();
    let mail = site.path("mail.eml");
    std::fs::write(&mail, "Subject: theirs\n\nt\n").unwrap();
    let mut command = site.command(&["explain", "--json"]);
    command.arg(&mail);
    let explained: Value = serde_json::from_slice(&run(command, "").stdout).unwrap();
    assert_eq!(explained["events"][0]["payload"]["Title"], "Ours");

    let config = site.config();
    let folder = config.parent().unwrap();
    let mut command = Command::new(support::program());
    let shorter = config.strip_prefix(folder.parent().unwrap()).unwrap();
    command.current_dir(folder.parent().unwrap()).env_clear();
    command.args(["explain", "--json", "--config"]).arg(shorter).arg(&mail);
    let explained: Value = serde_json::from_slice(&run(command, "").stdout).unwrap();
    assert_eq!(explained["events"][0]["payload"]["Title"], "Ours", "by a relative path");
}
