//! Mutes, maintenance windows and expected mails on the command line.

use std::process::Output;

use serde_json::Value;

use super::support::{PATIENCE, Smtp};
use super::{err, out, run, stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_is_begun_listed_and_ended_beside_a_service_and_without_one() {
    let (standin, site) = stage().await;
    let mute = |arguments: &[&str]| run(site.command(&[&["mute"], arguments].concat()), "");
    let id = |output: &Output| out(output).split(' ').next().unwrap().to_owned();
    let mail = |subject: &str| {
        let submitted = run(site.command(&["submit", "soc"]), &format!("Subject: {subject}\n\nt\n"));
        assert_eq!(submitted.status.code(), Some(0), "{}", err(&submitted));
    };
    let begun = mute(&[
        "--for",
        "2h",
        "--match",
        "subject=^db1",
        "--match",
        "event.status=new",
        "--reason",
        "new disks",
    ]);
    assert_eq!(begun.status.code(), Some(0), "{}", err(&begun));
    assert!(out(&begun).contains(" mutes until "), "{}", out(&begun));

    let gateway = site.start();
    mail("db1 is down");
    mail("db2 is down");
    let posted = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!(posted[0].payload["Title"], "db2 is down");
    let muted: Value = serde_json::from_slice(
        &run(site.command(&["queue", "list", "--state", "muted", "--json"]), "").stdout,
    )
    .unwrap();
    assert_eq!((&muted["title"], &muted["state"]), (&"db1 is down".into(), &"muted".into()));
    assert_eq!(muted["reason"], format!("mute {}: new disks", id(&begun)));
    let listed = out(&mute(&["list"]));
    assert!(listed.contains("subject=^db1 and event.status=new: new disks"), "{listed}");

    let eml = site.path("db1.eml");
    std::fs::write(&eml, "Subject: db1 is slow\n\nt\n").unwrap();
    let explained = out(&run(site.command(&["explain", eml.to_str().unwrap()]), ""));
    assert!(
        explained.contains(&format!("muted now, kept and not sent: mute {}: new disks, until", id(&begun))),
        "{explained}"
    );
    let json = run(site.command(&["explain", "--json", eml.to_str().unwrap()]), "");
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["events"][0]["muted"].as_str().unwrap().starts_with("mute "), "{json}");

    let second = mute(&["--until", "23:59", "--all", "--critical"]);
    assert_eq!(second.status.code(), Some(0), "{}", err(&second));
    assert_eq!(mute(&["list", "--json"]).stdout.iter().filter(|byte| **byte == b'\n').count(), 2);
    let ended = mute(&["end", "--all"]);
    assert!(out(&ended).ends_with(" ended\n"), "{}", out(&ended));
    assert_eq!(out(&mute(&["list"])), "nothing is muted\n");
    let told = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    assert_eq!(told[1].payload["Title"], format!("1 incident is still open after mute {}", id(&begun)));
    mail("db1 is down");
    let posted = tokio::time::timeout(PATIENCE, standin.wait_for_events(3)).await.unwrap();
    assert_eq!(posted[2].payload["Title"], "db1 is down");
    assert_eq!(mute(&["end", "nope"]).status.code(), Some(65));
    gateway.stop();
    assert_eq!(mute(&["end", "nope"]).status.code(), Some(65));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_that_makes_no_sense_is_refused_with_the_place_in_its_argument() {
    let (_standin, site) = stage().await;
    for arguments in [
        &["mute", "--for", "2h"][..],
        &["mute", "--match", "subject=x"],
        &["mute", "--for", "2 moons", "--match", "subject=x"],
        &["mute", "--for", "0s", "--match", "subject=x"],
        &["mute", "--until", "2020-01-01", "--match", "subject=x"],
        &["mute", "--until", "soon", "--match", "subject=x"],
        &["mute", "end"],
    ] {
        assert_eq!(run(site.command(arguments), "").status.code(), Some(64), "{arguments:?}");
    }
    let refused = run(
        site.command(&["mute", "--for", "2h", "--match", "subjct=x", "--match", "event.source-system=(x"]),
        "",
    );
    assert_eq!(refused.status.code(), Some(64));
    assert_eq!(
        err(&refused),
        "--match:1:1: unknown field `subjct`\n 1 | subjct=x\n   | ^^^^^^\n  help: did you mean `subject`?\n\n\
         --match:1:21: the pattern is wrong: unclosed group\n 1 | event.source-system=(x\n   |                     ^\n  \
         help: for the character itself write a backslash before it\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_and_expected_mails_are_shown_with_their_next_times() {
    let (standin, mut site) = stage().await;
    site.append(
        "[[maintenance]]\nname = 'decommissioning'\nwhen = { team = 'x' }\nfrom = 2099-12-24\nuntil = 2099-12-26\n\
         [[expect]]\nname = 'backup'\nwhen = { subject = '^Backup' }\nwithin = '26h'\n\
         [heartbeat]\nurl-file = 'heartbeat'\ninterval = '10m'\n",
    );
    let refused = run(site.command(&["check"]), "");
    assert_eq!(refused.status.code(), Some(78));
    assert!(err(&refused).contains("[heartbeat]: the heartbeat address cannot be read"), "{}", err(&refused));
    std::fs::write(site.path("heartbeat"), "http://127.0.0.1:9/h1dden\n").unwrap();
    let checked = out(&run(site.command(&["check"]), ""));
    for part in [
        "maintenance decommissioning: next from Thu 2099-12-24 00:00:00 UTC until Sun 2099-12-27 00:00:00 UTC\n",
        "expect backup within 26h: not begun; never seen; the first deadline is 26h after the first start",
        "heartbeat every 10m\n",
    ] {
        assert!(checked.contains(part), "{part} is missing:\n{checked}");
    }

    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO x").unwrap();
    smtp.mail("a@example.org", &["soc@example.org"], "Subject: Backup ok\n\nt\n").unwrap();
    tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    let seen = out(&run(site.command(&["expect"]), ""));
    assert!(
        seen.contains("expect backup within 26h: seen; last seen ") && seen.contains("the next deadline is"),
        "{seen}"
    );
    let json: Value = serde_json::from_slice(&run(site.command(&["expect", "--json"]), "").stdout).unwrap();
    assert_eq!((&json["name"], &json["state"]), (&"backup".into(), &"seen".into()));
    gateway.process().wait_for("that nobody hears the heartbeat", |line| {
        line.contains("the ping was not taken").then_some(())
    });
    let log = gateway.stop().join("\n");
    assert!(!log.contains("h1dden"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_puts_a_maintenance_window_in_force() {
    let (standin, mut site) = stage().await;
    let gateway = site.start();
    site.append("[[maintenance]]\nname = 'now'\nwhen = { subject = 'db1' }\nfrom = 2020-01-01\n");
    site.config();
    gateway.signal("HUP");
    gateway.process().wait_for("that says so", |line| line.contains("new rules").then_some(()));
    for subject in ["db1 is down", "db2 is down"] {
        run(site.command(&["submit", "soc"]), &format!("Subject: {subject}\n\nt\n"));
    }
    let posted = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!(posted[0].payload["Title"], "db2 is down");
    let muted = out(&run(site.command(&["queue", "list", "--state", "muted"]), ""));
    assert!(muted.contains("db1 is down") && muted.contains("maintenance now"), "{muted}");
    gateway.stop();
}
