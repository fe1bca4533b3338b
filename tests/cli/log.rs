//! The log as journald reads it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{PATIENCE, Site, stage};

/// What a service writes until it listens, with the stream to journald that `named` gives to its log.
fn log(site: &Site, format: &str, file: &Path, named: impl Fn(&File) -> String) -> String {
    let stderr = File::create(file).unwrap();
    let mut command = site.command(&["run"]);
    command.env("JOURNAL_STREAM", named(&stderr)).stderr(stderr);
    let mut service = command.spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while !fs::read_to_string(file).unwrap().contains("listening") {
        assert!(Instant::now() < end, "{format}: it does not listen: {}", fs::read_to_string(file).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    service.kill().unwrap();
    service.wait().unwrap();
    fs::read_to_string(file).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_systemd_each_line_has_its_priority_and_nowhere_else() {
    let (_standin, mut site) = stage().await;
    // It warns of a spool that does not wait for the disk.
    site.set("spool", "sync", "'off'");
    for format in ["text", "json"] {
        site.set("log", "format", format!("'{format}'"));
        let of_journal = |stderr: &File| {
            let file = stderr.metadata().unwrap();
            format!("{}:{}", file.dev(), file.ino())
        };
        let told = log(&site, format, &site.path("journal"), of_journal);
        let priority = |part: &str| told.lines().find(|line| line.contains(part)).map(|line| &line[..3]);
        assert_eq!(priority("WILL LOSE"), Some("<4>"), "{told}");
        assert_eq!(priority("listening"), Some("<6>"), "{told}");
        assert!(told.lines().all(|line| line.starts_with('<')), "{told}");
        let elsewhere = log(&site, format, &site.path("file"), |_| "1:1".to_owned());
        assert!(!elsewhere.lines().any(|line| line.starts_with('<')), "{elsewhere}");
    }
}
