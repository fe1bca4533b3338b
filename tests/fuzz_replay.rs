//! The laws of the fuzz targets, held against the corpus and the mails of `tests/mail`: without a fuzzer,
//! the same each time.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/laws/mod.rs"]
mod laws;

/// Every file below `folder` whose name ends in `end`, in order.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "{folder} is as good as empty");
    found.sort();
    found
}

/// Holds `law` against every file; the one that breaks it is named.
fn replay(files: Vec<PathBuf>, law: impl Fn(&[u8])) {
    for path in files {
        println!("{}", path.display());
        law(&fs::read(&path).expect("the file can be read"));
    }
}

#[test]
fn every_mail_is_judged() {
    replay(files("fuzz/corpus/judge", ""), laws::judge);
    replay(files("tests/mail", ".eml"), laws::judge);
}

#[test]
fn what_is_undone_in_a_mail_is_undone_once() {
    replay(files("fuzz/corpus/mail", ""), laws::mail);
    replay(files("fuzz/corpus/judge", ""), laws::mail);
    replay(files("tests/mail", ".eml"), laws::mail);
}

#[test]
fn every_rule_file_loads_or_is_refused_at_a_place() {
    let law = |text: &[u8]| laws::rule_file(&String::from_utf8_lossy(text));
    replay(files("fuzz/corpus/rule_file", ""), law);
    replay(files("tests/rules", ".toml"), law);
}

#[test]
fn a_message_ends_where_it_ends() {
    replay(files("fuzz/corpus/end_of_data", ""), laws::end_of_data);
    replay(files("tests/mail", ".eml"), laws::end_of_data);
}

#[test]
fn a_session_is_the_same_however_it_is_cut() {
    replay(files("fuzz/corpus/session", ""), laws::session);
    replay(files("tests/mail", ".eml"), |content| {
        let head = b"EHLO a.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n";
        laws::session(&[head, content, b"\r\n.\r\nQUIT\r\n"].concat());
    });
}

#[test]
fn a_proxy_names_its_client_and_no_byte_behind_is_read() {
    replay(files("fuzz/corpus/proxy", ""), laws::proxy);
}

#[test]
fn a_mail_in_chunks_is_one_mail() {
    replay(files("fuzz/corpus/bdat", ""), laws::bdat);
    replay(files("tests/mail", ".eml"), laws::bdat);
}

#[test]
fn nobody_is_logged_in_whom_the_verifier_did_not_find_right() {
    replay(files("fuzz/corpus/auth", ""), laws::auth);
}

#[test]
fn no_result_comes_out_of_what_the_sender_wrote() {
    replay(files("fuzz/corpus/results", ""), laws::results);
    replay(files("tests/mail", ".eml"), laws::results);
}
