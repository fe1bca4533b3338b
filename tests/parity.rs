//! What others send to SIGNL4 this gateway can send as well, field by field: the two commands of the Cortex XSOAR
//! pack (`demisto/content`, `Packs/SIGNL4`), and n8n's workflow from TheHive to SIGNL4
//! (<https://n8n.io/workflows/1630>).

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Map, Value, json};
use smtp2signl4::event::Event;
use smtp2signl4::mail::{Client, Envelope, Message, Origin};
use smtp2signl4::rules::{RuleSet, Site as RuleSite, Subject, shipped};
use smtp2signl4::standin::Standin;
use support::{PATIENCE, Site};

/// The arguments of the pack's `signl4_alert`; what is not given is null in its JSON.
#[derive(Default, Clone)]
struct Alert {
    title: &'static str,
    message: &'static str,
    external_id: Option<&'static str>,
    service: Option<&'static str>,
    location: Option<&'static str>,
    alerting_scenario: Option<&'static str>,
    filtering: Option<&'static str>,
}

impl Alert {
    /// The JSON that the pack posts.
    fn of_the_pack(&self) -> Value {
        json!({
            "Title": self.title,
            "Message": self.message,
            "X-S4-ExternalID": self.external_id,
            "X-S4-Status": "new",
            "X-S4-Service": self.service,
            "X-S4-Location": self.location,
            "X-S4-AlertingScenario": self.alerting_scenario,
            "X-S4-Filtering": self.filtering,
            "X-S4-SourceSystem": "CortexXSOAR",
        })
    }
}

/// The JSON of the pack's `signl4_close`.
fn close_of_the_pack(external_id: &str) -> Value {
    json!({
        "X-S4-ExternalID": external_id,
        "X-S4-Status": "resolved",
        "X-S4-SourceSystem": "CortexXSOAR",
    })
}

/// The fields as SIGNL4 reads them: null is not set, and a flag may be a word.
fn fields(payload: &Value) -> Map<String, Value> {
    let word = |value: &Value| if value.is_boolean() { value.to_string().into() } else { value.clone() };
    let fields = payload.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.clone(), word(value))).collect()
}

fn alerts() -> Vec<Alert> {
    let plain = Alert { title: "Phishing", message: "See incident 4711", ..Alert::default() };
    let keyed = Alert { external_id: Some("INC-4711"), ..plain.clone() };
    vec![
        plain,
        keyed.clone(),
        Alert { service: Some("Security"), ..keyed.clone() },
        Alert { location: Some("52.4, 13.0"), ..keyed.clone() },
        Alert { alerting_scenario: Some("emergency"), filtering: Some("false"), ..keyed.clone() },
        Alert {
            service: Some("Security"),
            location: Some("52.3984235,13.0544149"),
            alerting_scenario: Some("multi_ack"),
            filtering: Some("true"),
            ..keyed
        },
    ]
}

fn run(mut command: Command) -> Output {
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn send_and_close_post_what_the_xsoar_pack_posts_and_return_its_event_id() {
    let standin: Standin = support::standin().await;
    let site = Site::new(&standin);
    let gateway = site.start();
    let mut wanted = Vec::new();
    let mut printed = Vec::new();
    let mut hand_in = |arguments: &[&str], expected: Value| {
        let mut command = site.command(arguments);
        command.args(["--source-system", "CortexXSOAR", "--wait"]);
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        printed.push(json["eventId"].as_str().unwrap().to_owned());
        wanted.push(fields(&expected));
    };
    for (at, alert) in alerts().into_iter().enumerate() {
        // Each is an incident of its own: a repeated one would be another question.
        let id = alert.external_id.map(|id| format!("{id}-{at}"));
        let mut expected = alert.of_the_pack();
        let mut arguments = vec!["send", "--title", alert.title, "--message", alert.message];
        for (option, value) in [
            ("--external-id", id.as_deref()),
            ("--service", alert.service),
            ("--location", alert.location),
            ("--alerting-scenario", alert.alerting_scenario),
            ("--filtering", alert.filtering),
        ] {
            arguments.extend(value.map(|value| [option, value]).into_iter().flatten());
        }
        expected["X-S4-ExternalID"] = json!(id);
        hand_in(&arguments, expected);
        if let Some(id) = &id {
            hand_in(&["close", "--external-id", id], close_of_the_pack(id));
        }
    }
    let events = tokio::time::timeout(PATIENCE, standin.wait_for_events(wanted.len() as u64)).await.unwrap();
    let posted: Vec<_> = events.iter().map(|event| fields(&event.payload)).collect();
    assert_eq!(posted, wanted);
    let ids: Vec<_> = events.iter().map(|event| event.event_id.clone().unwrap()).collect();
    assert_eq!(printed, ids);
    gateway.stop();
}

/// The events that the shipped rules make of a mail.
fn judge(mail: &str) -> Vec<Event> {
    let rules = RuleSet::load(&shipped(), RuleSite::default()).unwrap();
    let message = Message::parse(mail.as_bytes());
    let client = Client { address: Some([10, 0, 0, 7].into()), ..Client::default() };
    let envelope = Envelope { origin: Origin::Smtp, client, ..Envelope::default() };
    rules.judge(&Subject { message: &message, envelope: &envelope, team: "soc" }).events
}

#[test]
fn a_mail_of_xsoar_makes_what_its_pack_posts() {
    for alert in alerts().into_iter().filter(|alert| alert.external_id.is_some()) {
        let mut mail = format!("From: Cortex XSOAR <xsoar@soc.example>\nSubject: {}\n", alert.title);
        for (name, value) in [
            ("X-S4-ExternalID", alert.external_id),
            ("X-S4-Service", alert.service),
            ("X-S4-Location", alert.location),
            ("X-S4-AlertingScenario", alert.alerting_scenario),
            ("X-S4-Filtering", alert.filtering),
        ] {
            mail.extend(value.map(|value| format!("{name}: {value}\n")));
        }
        let opened = judge(&format!("{mail}\n{}\n", alert.message));
        let payload: Value = serde_json::from_str(&opened[0].payload()).unwrap();
        assert_eq!((opened.len(), fields(&payload)), (1, fields(&alert.of_the_pack())), "{mail}");

        let closed = judge(&format!("{mail}X-S4-Status: resolved\n\n{}\n", alert.message));
        let payload: Value = serde_json::from_str(&closed[0].payload()).unwrap();
        // More than the pack's close says, and the same alert closed.
        for (name, value) in fields(&close_of_the_pack(alert.external_id.unwrap())) {
            assert_eq!(payload[&name], value, "{name}");
        }
    }
}

/// The template for TheHive 5 that the README recommends.
fn thehive5_template() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let section = readme.split("### TheHive 5\n").nth(1).unwrap();
    let lines: Vec<&str> = section
        .lines()
        .skip_while(|line| !line.starts_with("    "))
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect();
    lines.join("\n").trim_end().to_owned()
}

/// The mail that TheHive 5 makes of the template for a case of this stage.
fn thehive5_mail(stage: &str) -> String {
    let mut text = thehive5_template();
    for (name, value) in [
        ("object.number", "1208"),
        ("object.title", "Suspicious PowerShell on WS-042"),
        ("object.stage", stage),
        ("object.status", if stage == "Closed" { "TruePositive" } else { "InProgress" }),
        ("object.severity", "3"),
        ("object.tlp", "2"),
        ("url", "https://thehive.soc.example/cases/~41136/details"),
    ] {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    assert!(!text.contains("{{"), "the template has a name that this test does not know:\n{text}");
    // The first line of TheHive's template is the subject.
    let (subject, body) = text.split_once('\n').unwrap();
    format!(
        "From: thehive@soc.example\nTo: soc@soc.example\nSubject: {subject}\nMessage-ID: <{stage}@thehive5>\n\n\
         {}\n\nDescription:\nEncoded command line, seen by the agent.\n",
        body.trim_start()
    )
}

#[test]
fn mails_of_thehive_5_do_what_n8ns_workflow_does() {
    let mut ids = Vec::new();
    for stage in ["New", "InProgress", "Imported", "Closed"] {
        let events = judge(&thehive5_mail(stage));
        assert_eq!(events.len(), 1, "{stage}");
        let payload: Value = serde_json::from_str(&events[0].payload()).unwrap();
        // IF object.stage is not "Closed": send, else resolve.
        let status = if stage == "Closed" { "resolved" } else { "new" };
        assert_eq!(payload["X-S4-Status"], status, "{stage}");
        // externalId is objectId.
        ids.push(payload["X-S4-ExternalID"].as_str().unwrap().to_owned());
        if stage != "Closed" {
            // title is details.title, message is details.description.
            assert!(
                payload["Title"].as_str().unwrap().contains("Suspicious PowerShell on WS-042"),
                "{payload}"
            );
            assert!(payload["Message"].as_str().unwrap().contains("Encoded command line"), "{payload}");
        }
    }
    assert_eq!(ids, ["thehive:~41136"; 4], "the object's own id, for open and close alike");
}
