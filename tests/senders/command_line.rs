//! swaks and curl: what the README and people at a shell use.

use std::process::Command;

use crate::Scene;
use crate::support::run;

fn swaks(scene: &Scene, arguments: &[&str]) -> String {
    let mut swaks = Command::new("swaks");
    swaks.args(["--server", "127.0.0.1", "--port", &scene.port(), "--to", "soc@example.org"]);
    swaks.args(arguments);
    run(swaks, "")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs swaks"]
async fn swaks_greets_by_ehlo_and_pipelines_an_alert_and_its_end() {
    let scene = Scene::set().await;
    let send = |subject: &str, body: &str| {
        let transcript = swaks(
            &scene,
            &[
                "--ehlo",
                "mon.example",
                "--from",
                "mon@example.org",
                "--pipeline",
                "--h-Subject",
                subject,
                "--body",
                body,
            ],
        );
        let commands: Vec<_> = transcript.lines().map(|line| line.get(..11).unwrap_or(line)).collect();
        let burst = [" -> MAIL FR", " -> RCPT TO", " -> DATA"];
        assert!(commands.windows(3).any(|window| window == burst), "not pipelined:\n{transcript}");
    };
    send("Server down", "Message: Server A2 is down.\nX-S4-ExternalID: 1234\nX-S4-Status: new\n");
    send("Server up", "X-S4-ExternalID: 1234\nX-S4-Status: resolved\n");
    scene.ends_with(2, "swaks-pipelined").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs swaks"]
async fn swaks_greets_by_helo_and_attaches_a_file() {
    let scene = Scene::set().await;
    let envelope = ["--protocol", "SMTP", "--helo", "mon.example", "--from", "<>"];
    let body = ["--h-Subject", "Report of the night", "--body", "3 of 4 jobs failed.\n.\nSee the table."];
    let attachment =
        ["--attach-type", "text/csv", "--attach-name", "jobs.csv", "--attach", "job,result\n1,failed\n"];
    let transcript = swaks(&scene, &[&envelope[..], &body, &attachment].concat());
    assert!(transcript.contains(" -> HELO mon.example"), "{transcript}");
    scene.ends_with(1, "swaks-attachment").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl"]
async fn curl_sends_from_a_pipe() {
    let scene = Scene::set().await;
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--max-time",
        "30",
        "--mail-from",
        "you@example.org",
        "--mail-rcpt",
        "soc@example.org",
    ]);
    curl.args(["-T", "-", &format!("smtp://127.0.0.1:{}", scene.port())]);
    run(curl, "Subject: Disk full on db01\n\n/var is at 99 %\n.\nand rising\n");
    scene.ends_with(1, "curl").await;
}
