//! Each mail in `tests/mail` is parsed into the message beside it, whatever its line ends are.
//! `BLESS=1 cargo test --test golden` writes the messages anew; read them before they are kept.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smtp2signl4::mail::Message;

/// The mails of the folder and the folders in it, in order.
fn mails(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    paths.sort();
    let is_mail = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "eml");
    paths
        .into_iter()
        .flat_map(|path| if path.is_dir() { mails(&path) } else { vec![path] })
        .filter(is_mail)
        .collect()
}

/// What a test can expect of a message; `size` and the sizes of attachments count line ends.
fn parsed(content: &[u8], sizes: bool) -> Value {
    let mut message = serde_json::to_value(Message::parse(content)).expect("a message has only text keys");
    if !sizes {
        message["size"].take();
        for attachment in message["attachments"].as_array_mut().expect("a message lists its attachments") {
            attachment["size"].take();
        }
    }
    message
}

fn with_line_ends(content: &[u8], end: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> =
        content.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    lines.join(end)
}

#[test]
fn every_mail_is_parsed_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
    let mails = mails(&folder);
    assert!(!mails.is_empty(), "no mails in {}", folder.display());
    let bless = std::env::var_os("BLESS").is_some();
    let mut failed = Vec::new();
    for path in mails {
        let content = fs::read(&path).unwrap();
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let text = format!("{:#}\n", parsed(&content, true));
        let golden = path.with_extension("json");
        if bless {
            fs::write(&golden, &text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            failed.push(format!("{name} is now:\n{text}"));
        }
        let expected = parsed(&content, false);
        for end in ["\r\n", "\n"] {
            if parsed(&with_line_ends(&content, end.as_bytes()), false) != expected {
                failed.push(format!("{name} depends on its line ends, with {end:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
