//! A spool that is taken away under the running service: nothing is acknowledged that no later start finds, and what
//! was acknowledged before is delivered by the next start.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use smtp2signl4::standin::{Options, Standin};
use support::{PATIENCE, Site, Smtp, run};

fn mail(subject: &str) -> String {
    format!("Subject: {subject}\n\nSomething happened.\n")
}

fn send(smtp: &mut Smtp, subject: &str) -> String {
    smtp.mail("tool@example.org", &["soc@example.org"], &mail(subject)).unwrap_or_else(|e| e.to_string())
}

/// The rescue files beside the config.
fn rescued(site: &Site) -> Vec<PathBuf> {
    let is_one =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("smtp2signl4-rescue-");
    fs::read_dir(site.path("")).unwrap().map(|entry| entry.unwrap().path()).filter(is_one).collect()
}

/// Takes mail, lets `deed` loose on the spool, and sees that all that was acknowledged arrives after the next start.
async fn survives(deed: impl Fn(&Path)) {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.refuse().await.unwrap();
    let site = Site::new(&standin);
    let mut gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO taken.example").unwrap();
    assert!(send(&mut smtp, "before").starts_with("250 "));
    let large = format!("Subject: large\n\n{}\n", "A line of a large mail.\n".repeat(40_000));
    assert!(smtp.mail("tool@example.org", &["soc@example.org"], &large).unwrap().starts_with("250 "));
    deed(&site.spool());
    let answer = send(&mut smtp, "after");
    assert!(answer.starts_with("451 "), "{answer}");
    let (status, log) = gateway.ended();
    assert_eq!(status.code(), Some(75), "{log:?}");
    assert!(log.iter().any(|line| line.contains("the spool was taken away")), "{log:?}");
    let files = rescued(&site);
    assert_eq!(files.len(), 1, "{log:?}");
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);

    standin.listen().await.unwrap();
    let gateway = site.start();
    let all = standin.wait_for(|requests| {
        ["before", "large"].iter().all(|title| requests.iter().any(|r| r.payload["Title"] == *title))
    });
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(rescued(&site), Vec::<PathBuf>::new(), "it is taken in once");
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO taken.example").unwrap();
    assert!(send(&mut smtp, "later").starts_with("250 "), "it goes on");
    gateway.stop();
    // And nothing goes out twice with the next start.
    let sent = standin.events().len();
    site.start().stop();
    assert_eq!(standin.events().len(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_removed_loses_nothing() {
    survives(|spool| fs::remove_dir_all(spool).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_moved_away_loses_nothing() {
    survives(|spool| fs::rename(spool, spool.with_file_name("moved")).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_removed_loses_nothing() {
    survives(|spool| fs::remove_file(spool.join("spool.db")).unwrap()).await;
}

/// A copy of a spool in which another mail waits.
async fn backup(to: &Path) {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.refuse().await.unwrap();
    let site = Site::new(&standin);
    let gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO taken.example").unwrap();
    assert!(send(&mut smtp, "of the backup").starts_with("250 "));
    gateway.stop();
    fs::copy(site.spool().join("spool.db"), to).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_a_database_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("spool.db");
    backup(&copy).await;
    // As tar and rsync do it: a new file under the old name.
    survives(|spool| {
        fs::copy(&copy, spool.join("restored")).unwrap();
        fs::rename(spool.join("restored"), spool.join("spool.db")).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_the_file_of_the_database_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("spool.db");
    backup(&copy).await;
    // As cp does it: another content in the same file. What is in the log is still ours.
    survives(|spool| _ = fs::copy(&copy, spool.join("spool.db")).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_file_that_others_could_have_written_is_not_taken_in() {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.refuse().await.unwrap();
    let site = Site::new(&standin);
    let mut gateway = site.start();
    let mut smtp = Smtp::connect(gateway.address()).unwrap();
    smtp.say("EHLO taken.example").unwrap();
    assert!(send(&mut smtp, "mine").starts_with("250 "));
    fs::remove_dir_all(site.spool()).unwrap();
    assert!(!send(&mut smtp, "after").starts_with("250 "));
    gateway.ended();
    let file = rescued(&site).remove(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
    let log = site.start().stop();
    assert!(log.iter().any(|line| line.contains("a rescue file is not taken in")), "{log:?}");
    assert!(file.exists());
    let listed = run(site.command(&["queue", "list"]), "");
    assert!(!listed.contains("mine"), "{listed}");
}
