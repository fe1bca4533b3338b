//! Cortex XSOAR and TheHive's Cortex: Python's smtplib, through the calls that they make. Neither tries
//! again when a mail is not taken.

use std::process::Command;

use smtp2signl4::standin::Fault;

use crate::Scene;
use crate::support::{Site, run, standin};

fn send(scene: &Scene, arguments: &[&str]) {
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/senders/notify.py"));
    python.arg(scene.port()).args(arguments);
    run(python, "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn xsoar_sends_plain_text() {
    let scene = Scene::set().await;
    send(&scene, &["xsoar-text"]);
    scene.ends_with(1, "xsoar-text").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn xsoar_sends_html_alone() {
    let scene = Scene::set().await;
    send(&scene, &["xsoar-html"]);
    scene.ends_with(1, "xsoar-html").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn xsoar_sends_text_and_html_as_alternatives() {
    let scene = Scene::set().await;
    send(&scene, &["xsoar-alternative"]);
    scene.ends_with(1, "xsoar-alternative").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn xsoar_opens_and_closes_by_headers_of_its_own() {
    let scene = Scene::set().await;
    send(&scene, &["xsoar-text", "X-S4-ExternalID=xsoar-4711", "X-S4-AlertingScenario=emergency"]);
    send(&scene, &["xsoar-text", "X-S4-ExternalID=xsoar-4711", "X-S4-Status=resolved"]);
    scene.ends_with(2, "xsoar-headers").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn the_cortex_mailer_sends_a_case() {
    let scene = Scene::set().await;
    send(&scene, &["cortex"]);
    scene.ends_with(1, "cortex-case").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python 3"]
async fn a_sender_that_never_tries_again_is_answered_in_its_time_while_signl4_hangs() {
    let standin = standin().await;
    standin.fail(Some(Fault::Hang));
    let mut site = Site::new(&standin);
    site.set("delivery", "timeout", "'1s'");
    let scene = Scene::of(standin, site);
    // It gives the gateway ten seconds.
    send(&scene, &["cortex"]);
    scene.standin.fail(None);
    scene.ends_with(1, "cortex-case").await;
}
