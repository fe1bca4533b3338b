//! The program as sendmail: what cron, anacron and PHP call, in their own words.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use smtp2signl4::standin::Standin;
use support::{Site, program, standin};

/// What became of `command`, which reads `input`.
fn run(command: &mut Command, input: &str) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A site with the program under its other names.
struct Linked {
    _standin: Standin,
    site: Site,
}

impl Linked {
    async fn new() -> Self {
        let standin = standin().await;
        let site = Site::new(&standin);
        for name in ["sendmail", "mailq", "newaliases"] {
            symlink(program(), site.path(name)).unwrap();
        }
        Self { _standin: standin, site }
    }

    /// Calls it as a shell would, with `line` behind its name.
    fn call(&self, line: &str, mail: &str) -> Output {
        let shell = format!("exec {} {line}", self.site.path("").join("sendmail").display());
        let shell =
            shell.replace("sendmail ", &format!("sendmail --config {} ", self.site.config().display()));
        run(Command::new("sh").args(["-c", &shell]).env_clear(), mail)
    }

    /// The newest mail in the queue, and its bytes.
    fn last(&self) -> (Value, String) {
        let listed = run(&mut self.site.command(&["queue", "list", "--state", "all", "--json"]), "");
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        let id = text(&listed.stdout).lines().map(id).max().expect("nothing is in the queue");
        let shown = run(&mut self.site.command(&["queue", "show", &id, "--json"]), "");
        let content = run(&mut self.site.command(&["queue", "show", &id, "--content"]), "");
        (serde_json::from_slice(&shown.stdout).unwrap(), text(&content.stdout).to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_and_its_kin_lose_no_mail_to_the_program_as_sendmail() {
    let linked = Linked::new().await;
    let cron = "From: root (Cron Daemon)\nTo: soc\nSubject: Cron <root@web01> backup\n\nrsync: broken pipe\n.\nmore\n";
    for (line, recipients) in [
        ("-FCronDaemon -i -B8BITMIME -oem soc", json!(["soc"])),
        ("-FCronDaemon -i -odi -oem -oi -t -f root", json!(["soc"])),
        ("-FAnacron -odi soc", json!(["soc"])),
        ("-t -bm -N failure,delay -v", json!(["soc"])),
        ("-ti -r ops@example.org", json!(["soc"])),
        ("-f ops@example.org -- -dash@example.org", json!(["-dash@example.org"])),
        ("-Z soc", json!(["soc"])),
    ] {
        let output = linked.call(line, cron);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        // cron would mail what its sendmail says.
        assert!(output.stdout.is_empty(), "{line}");
        let quiet = !line.contains("-v") && !line.contains("-Z");
        assert_eq!(output.stderr.is_empty(), quiet, "{line}: {}", text(&output.stderr));
        let (shown, content) = linked.last();
        assert_eq!(shown["envelope"]["recipients"], recipients, "{line}");
        assert!(content.ends_with("\n.\nmore\n"), "a dot ended the mail: {content}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_is_who_calls_and_blind_copies_stay_blind() {
    let linked = Linked::new().await;
    let mail = "To: soc@example.org\nBcc: boss@example.org,\n\tchief@example.org\nSubject: disk full\n\nt\n";
    assert_eq!(linked.call("-t -F 'Disk Watch'", mail).status.code(), Some(0));
    let (shown, content) = linked.last();
    let sender = shown["envelope"]["reverse-path"].as_str().unwrap_or_default().to_owned();
    assert!(sender.contains('@'), "who called is not known: {shown}");
    assert_eq!(
        shown["envelope"]["recipients"],
        json!(["soc@example.org", "boss@example.org", "chief@example.org"])
    );
    assert_eq!(
        content,
        format!("From: \"Disk Watch\" <{sender}>\nTo: soc@example.org\nSubject: disk full\n\nt\n")
    );
    // A local delivery says in front from whom it is, and the null sender stays the null sender.
    assert_eq!(
        linked.call("soc", "From ops@example.org  Mon Nov 30 10:00:00 2026\nSubject: s\n\nt\n").status.code(),
        Some(0)
    );
    assert_eq!(linked.last().0["envelope"]["reverse-path"], "ops@example.org");
    assert_eq!(linked.call("-f '<>' soc", "From: a@b.example\n\nt\n").status.code(), Some(0));
    assert_eq!(linked.last().0["envelope"]["reverse-path"].as_str().unwrap_or_default(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn mailq_and_newaliases_answer_and_what_no_gateway_does_is_said() {
    let linked = Linked::new().await;
    linked.call("soc", "Subject: a page that waits\n\nt\n");
    let queue = linked.call("-bp", "");
    assert!(text(&queue.stdout).contains("a page that waits"), "{}", text(&queue.stdout));
    let aliases = run(Command::new(linked.site.path("newaliases")).env_clear(), "");
    assert_eq!(aliases.status.code(), Some(0), "{}", text(&aliases.stderr));
    for line in ["-bs", "-bd -q30m"] {
        let refused = linked.call(line, "");
        assert_eq!(refused.status.code(), Some(64), "{line}");
        assert!(text(&refused.stderr).contains("gateway"), "{line}: {}", text(&refused.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_try_again_waits_for_a_service_that_starts_anew() {
    let mut linked = Linked::new().await;
    let socket = linked.site.path("control");
    linked.site.append(&format!("[control]\nsocket = '{}'\n", socket.display()));
    let gateway = linked.site.start();
    gateway.stop();
    // A service that keeps the spool and does not listen yet: what a restart looks like.
    std::fs::create_dir(linked.site.path("aside")).unwrap();
    std::fs::rename(linked.site.spool(), linked.site.path("aside/spool")).unwrap();
    std::fs::write(linked.site.spool(), "not a folder").unwrap();
    let waiting = std::thread::scope(|scope| {
        let call = scope.spawn(|| linked.call("soc", "Subject: in between\n\nt\n"));
        std::thread::sleep(std::time::Duration::from_millis(1500));
        std::fs::remove_file(linked.site.spool()).unwrap();
        std::fs::rename(linked.site.path("aside/spool"), linked.site.spool()).unwrap();
        let gateway = linked.site.start();
        let output = call.join().unwrap();
        gateway.stop();
        output
    });
    assert_eq!(waiting.status.code(), Some(0), "{}", text(&waiting.stderr));
    let (shown, _) = linked.last();
    assert_eq!(shown["envelope"]["recipients"], json!(["soc"]));
}
