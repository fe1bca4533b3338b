//! What is handed in from a shell or a pipe, and what an operator does to the queue, beside a service and without one.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use serde_json::Value;
use smtp2signl4::standin::Fault;

use super::support::PATIENCE;
use super::{err, out, run, stage};

#[tokio::test(flavor = "multi_thread")]
async fn send_and_close_are_xsoars_two_commands_field_by_field() {
    let (standin, site) = stage().await;
    let gateway = site.start();
    let sent = run(
        site.command(&[
            "send",
            "--title",
            "Phishing",
            "--message",
            "See 4711",
            "--external-id",
            "INC-4711",
            "--service",
            "Security",
            "--location",
            "52.4,13.0",
            "--alerting-scenario",
            "multi_ack",
            "--filtering",
            "--wait",
        ]),
        "",
    );
    assert_eq!(sent.status.code(), Some(0), "{}", err(&sent));
    let closed = run(site.command(&["close", "--external-id", "INC-4711", "--wait"]), "");
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    assert_eq!(
        events[0].payload,
        serde_json::json!({
            "Title": "Phishing", "Message": "See 4711", "X-S4-ExternalID": "INC-4711", "X-S4-Service": "Security",
            "X-S4-Location": "52.4,13.0", "X-S4-SourceSystem": "smtp2signl4", "X-S4-Status": "new",
            "X-S4-AlertingScenario": "multi_ack", "X-S4-Filtering": true,
        })
    );
    assert_eq!(
        events[1].payload,
        serde_json::json!({
            "X-S4-ExternalID": "INC-4711", "X-S4-SourceSystem": "smtp2signl4", "X-S4-Status": "resolved",
        })
    );
    for (output, event) in [(&sent, &events[0]), (&closed, &events[1])] {
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed["eventId"].as_str(), event.event_id.as_deref());
    }
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_in_without_a_service_waits_for_it() {
    let (standin, site) = stage().await;
    let mail = "Subject: from a pipe\n\nIt works.\n";
    let submitted = run(site.command(&["submit", "-f", "cron@example.org", "soc"]), mail);
    assert_eq!(submitted.status.code(), Some(0), "{}", err(&submitted));
    let sent = run(site.command(&["send", "--title", "from a shell", "--message", "m", "--wait"]), "");
    assert_eq!(sent.status.code(), Some(75), "nobody can deliver it yet: {}", err(&sent));
    let listed = out(&run(site.command(&["queue", "list"]), ""));
    assert!(listed.contains("from a pipe") && listed.contains("from a shell"), "{listed}");

    let gateway = site.start();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(2)).await.unwrap();
    let mut titles: Vec<&str> = events.iter().map(|event| event.payload["Title"].as_str().unwrap()).collect();
    titles.sort_unstable();
    assert_eq!(titles, ["from a pipe", "from a shell"]);
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_takes_recipients_from_the_headers_and_refuses_an_empty_mail() {
    let (_standin, site) = stage().await;
    assert_eq!(run(site.command(&["submit", "soc"]), "").status.code(), Some(65));
    let mail = "To: A <a@example.org>\nCc: b@example.org\nBcc: c@example.org\nSubject: s\n\nt\n";
    let submitted = run(site.command(&["submit", "-t"]), mail);
    assert_eq!(submitted.status.code(), Some(0), "{}", err(&submitted));
    let id = err(&submitted).trim().rsplit(' ').next().unwrap().to_owned();
    let shown: Value =
        serde_json::from_slice(&run(site.command(&["queue", "show", &id, "--json"]), "").stdout).unwrap();
    assert_eq!(
        shown["envelope"]["recipients"],
        serde_json::json!(["a@example.org", "b@example.org", "c@example.org"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_defers_while_the_config_is_broken() {
    let (_standin, mut site) = stage().await;
    site.append("[nonsense]\n");
    let submitted = run(site.command(&["submit", "soc"]), "Subject: s\n\nt\n");
    assert_eq!(submitted.status.code(), Some(75), "a mail system must keep the mail: {}", err(&submitted));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_shown_and_changed_beside_a_service_and_without_one() {
    let (standin, site) = stage().await;
    standin.fail(Some(Fault::Status(422)));
    let gateway = site.start();
    for subject in ["one", "two"] {
        run(site.command(&["submit", "soc"]), &format!("From: a@example.org\nSubject: {subject}\n\nt\n"));
    }
    tokio::time::timeout(PATIENCE, standin.wait_for(|requests| requests.len() == 2)).await.unwrap();
    let failed = || {
        let text = out(&run(site.command(&["queue", "list", "--state", "failed", "--json"]), ""));
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    // The refusals are answered before they are written down.
    gateway.process().wait_for("that says the second event is parked", |line| {
        (line.contains("two") || failed().len() == 2).then_some(())
    });
    let id = |title: &str| {
        let failed = failed();
        let event = failed.iter().find(|event| event["title"] == title).unwrap();
        event["id"].as_str().unwrap().to_owned()
    };
    let (one, two) = (id("one"), id("two"));

    let dropped = run(site.command(&["queue", "drop", &one]), "");
    assert_eq!(out(&dropped), "1 event dropped\n", "{}", err(&dropped));
    let logged = gateway.process().wait_for("line on the drop", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["request"] == "drop").then_some(line)
    });
    let uid = std::fs::metadata(site.spool()).unwrap().uid();
    assert_eq!(
        (&logged["mail"], &logged["events"], &logged["uid"]),
        (&one.as_str().into(), &1.into(), &uid.into())
    );
    assert!(logged["operator"].as_str().is_some_and(|name| !name.is_empty()), "{logged}");
    gateway.stop();

    let retried = run(site.command(&["queue", "retry", &two, "--rejudge"]), "");
    assert_eq!(out(&retried), "1 event to be posted again\n", "{}", err(&retried));
    let shown = out(&run(site.command(&["queue", "show", &two]), ""));
    assert!(shown.contains("queued") && shown.contains("\"Title\":\"two\""), "{shown}");
    let kept = out(&run(site.command(&["queue", "show", &two, "--content"]), ""));
    assert_eq!(kept, "From: a@example.org\nSubject: two\n\nt\n");

    standin.fail(None);
    let gateway = site.start();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!(events[0].payload["Title"], "two");
    gateway.stop();
    let missing = run(site.command(&["queue", "show", "000000000000"]), "");
    assert_eq!(missing.status.code(), Some(65));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejudge_applies_todays_rules_to_the_kept_mail() {
    let (standin, mut site) = stage().await;
    standin.refuse().await.unwrap();
    let gateway = site.start();
    run(site.command(&["submit", "soc"]), "Subject: Tape full\n\nt\n");
    let rules = site.path("site.toml");
    std::fs::write(
        &rules,
        "version = 1\n[source]\nname = 'Tapes'\n[[rule]]\nname = 'tapes'\nwhen = { subject = '^Tape' }\n\
         set = { title = 'A tape is full', external-id = 'tape' }\n",
    )
    .unwrap();
    site.set("rules", "paths", "['site.toml']");
    site.config();
    gateway.signal("HUP");
    gateway.process().wait_for("that says so", |line| line.contains("new rules").then_some(()));
    let retried = run(site.command(&["queue", "retry", "--all", "--rejudge"]), "");
    assert_eq!(out(&retried), "1 event to be posted again\n", "{}", err(&retried));
    standin.listen().await.unwrap();
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(1)).await.unwrap();
    assert_eq!(events[0].payload["Title"], "A tape is full");
    gateway.stop();
    let teams = out(&run(site.command(&["queue", "teams", "--json"]), ""));
    assert!(teams.contains("\"state\":\"no service\""), "{teams}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_before_it_is_queued() {
    let (_standin, site) = stage().await;
    for arguments in [
        &["close", "--external-id", ""][..],
        &["send", "--title", " ", "--message", "m"],
        &["send", "--title", "t", "--message", "m", "--location", "Berlin"],
        &["send", "--title", "t", "--message", "m", "--team", "nobody"],
        &["send", "--title", "t", "--message", "m", "--alerting-scenario", "panic"],
    ] {
        assert_eq!(run(site.command(arguments), "").status.code(), Some(64), "{arguments:?}");
    }
    let gateway = site.start();
    for action in ["retry", "drop"] {
        let missing = run(site.command(&["queue", action, "000000000000"]), "");
        assert_eq!(missing.status.code(), Some(65), "{action}: {}", err(&missing));
    }
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_for_signl4_keep_nobody_from_the_service() {
    let (standin, site) = stage().await;
    standin.fail(Some(Fault::Hang));
    let gateway = site.start();
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let mut command = site.command(&["send", "--title", "t", "--message", "m", "--wait", "600"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for _ in &waiting {
        gateway.process().wait_for("that accepts one", |line| line.contains("\"accepted\"").then_some(()));
    }
    let submitted = run(site.command(&["submit", "soc"]), "Subject: s\n\nt\n");
    assert_eq!(submitted.status.code(), Some(0), "{}", err(&submitted));
    for mut child in waiting {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    gateway.kill();
}
