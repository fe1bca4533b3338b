//! A config or rules that were broken on disk stop no service: not one that runs, and not the next start.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::process::{Output, Stdio};

use serde_json::Value;
use smtp2signl4::standin::Standin;
use support::{Gateway, PATIENCE, Site, Smtp, standin};

/// A rule that gives the title, and one that cannot be read.
const RULE: &str = "version = 1\n[source]\nname = 'Site'\n[[rule]]\nname = 'disk'\nwhen = { subject = 'disk' }\nset = { title = 'Look at the disk' }\n";
const BROKEN: &str = "version = 1\n[source]\nname = 'Site'\n[[rule]]\nname = 'disk'\nwhen = { subject = 'disk(' }\nset = { title = 'x' }\n";

/// A site with [`RULE`], whose notices go to its one team.
fn site(standin: &Standin) -> Site {
    let mut site = Site::new(standin);
    site.set("rules", "paths", "['site.toml']");
    site.set("notices", "team", "'default'");
    std::fs::write(site.path("site.toml"), RULE).unwrap();
    site
}

/// Starts it as systemd does, which says where its state is.
fn start(site: &Site) -> Gateway {
    site.start_with(&[("STATE_DIRECTORY", site.spool().to_str().unwrap())])
}

fn run(site: &Site, arguments: &[&str]) -> Output {
    let state = site.spool();
    site.command(arguments).env("STATE_DIRECTORY", state).stdin(Stdio::null()).output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn send(gateway: &Gateway, subject: &str) {
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    let reply = smtp.mail("tool@example.org", &["soc@x"], &format!("Subject: {subject}\n\nText.\n")).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
}

/// Waits for the alert whose title is this.
async fn page(standin: &Standin, title: &str) -> Value {
    let found = |request: &smtp2signl4::standin::Request| request.payload["Title"] == title;
    let pages = standin.wait_for(|requests| requests.iter().any(found));
    if tokio::time::timeout(PATIENCE, pages).await.is_err() {
        let titles: Vec<_> =
            standin.requests().iter().map(|request| request.payload["Title"].clone()).collect();
        panic!("no page with the title {title:?} among {titles:?}");
    }
    standin.requests().into_iter().find(found).unwrap().payload
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_waits_until_the_new_rules_are_in_force_or_fails_with_every_error() {
    let standin = standin().await;
    let site = site(&standin);
    let gateway = start(&site);

    std::fs::write(site.path("site.toml"), BROKEN).unwrap();
    let failed = run(&site, &["reload"]);
    assert_eq!(failed.status.code(), Some(78));
    for part in ["site.toml:6:", "subject = 'disk('", "^", "goes on with the last good rules"] {
        assert!(err(&failed).contains(part), "{part} is missing: {}", err(&failed));
    }
    assert_eq!(run(&site, &["check"]).status.code(), Some(78));
    let teams = err(&run(&site, &["queue", "teams"]));
    assert!(teams.contains("broken since") && teams.contains("site.toml:6:"), "{teams}");
    let notice = page(&standin, "The config or the rules on disk are broken").await;
    assert!(notice["Message"].as_str().unwrap().contains("site.toml:6:"), "{notice}");
    send(&gateway, "disk sda is full");
    page(&standin, "Look at the disk").await;

    std::fs::write(site.path("site.toml"), RULE.replace("Look at", "Mind")).unwrap();
    let done = run(&site, &["reload"]);
    assert_eq!((done.status.code(), err(&done).as_str()), (Some(0), ""));
    assert!(!err(&run(&site, &["queue", "teams"])).contains("broken"));
    send(&gateway, "disk nvme0 is slow");
    page(&standin, "Mind the disk").await;
    tokio::time::timeout(
        PATIENCE,
        standin.wait_for(|requests| {
            requests.iter().any(|request| {
                request.payload["X-S4-ExternalID"] == "smtp2signl4:config"
                    && request.payload["X-S4-Status"] == "resolved"
            })
        }),
    )
    .await
    .expect("the notice ends");
    gateway.stop();
    let nobody = run(&site, &["reload"]);
    assert_eq!(nobody.status.code(), Some(69), "{}", err(&nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_broken_rules_goes_by_the_last_good_ones_and_says_so() {
    let standin = standin().await;
    let site = site(&standin);
    start(&site).stop();
    std::fs::write(site.path("site.toml"), BROKEN).unwrap();
    let gateway = start(&site);
    page(&standin, "The config or the rules on disk are broken").await;
    send(&gateway, "disk sda is full");
    page(&standin, "Look at the disk").await;
    let log = gateway.stop().join("\n");
    assert!(log.contains("site.toml:6:") && log.contains("the last good rules stay in force"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_broken_config_goes_by_the_last_good_one() {
    let standin = standin().await;
    let mut site = site(&standin);
    start(&site).stop();
    site.append("[spool\n");
    let gateway = start(&site);
    send(&gateway, "disk sda is full");
    page(&standin, "Look at the disk").await;
    let failed = run(&site, &["reload"]);
    assert_eq!(failed.status.code(), Some(78));
    assert!(err(&failed).contains("smtp2signl4.toml:"), "{}", err(&failed));
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_worked_and_what_cannot_work_is_refused() {
    let standin = standin().await;
    let mut site = site(&standin);
    std::fs::write(site.path("site.toml"), BROKEN).unwrap();
    let never = run(&site, &["run"]);
    assert_eq!(never.status.code(), Some(78), "{}", err(&never));

    std::fs::write(site.path("site.toml"), RULE).unwrap();
    start(&site).stop();
    std::fs::write(site.path("site.toml"), BROKEN).unwrap();
    std::fs::remove_file(site.path("secret")).unwrap();
    let no_secret = run(&site, &["run"]);
    assert_eq!(no_secret.status.code(), Some(78), "{}", err(&no_secret));
    std::fs::write(site.path("secret"), support::SECRET).unwrap();

    // With another file the copy has nothing to do.
    site.set("rules", "paths", "['other.toml']");
    std::fs::write(site.path("other.toml"), BROKEN).unwrap();
    let log = start(&site).stop().join("\n");
    assert!(log.contains("other.toml:6:"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_with_a_secret_in_it_is_not_copied() {
    let standin = standin().await;
    let mut site = site(&standin);
    site.set("signl4", "proxy", "'http://user:hunter2@127.0.0.1:9'");
    let log = start(&site).stop().join("\n");
    assert!(log.contains("no copy of this config is kept") && !log.contains("hunter2"), "{log}");
    let mut spool = Vec::new();
    for file in std::fs::read_dir(site.spool()).unwrap() {
        spool.extend(std::fs::read(file.unwrap().path()).unwrap_or_default());
    }
    assert!(!spool.windows(7).any(|bytes| bytes == b"hunter2"), "the spool holds no secret");
}
