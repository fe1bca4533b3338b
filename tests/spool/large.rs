//! Large contents, which have files of their own.

use std::fs;
use std::path::Path;

use jiff::SignedDuration;
use smtp2signl4::spool::{Config, Entry, Outcome, PutError, Spool};

use crate::support::Enqueue;
use crate::{clock, config, content, id, mail, open, open_at, sized, start};

const SIZE: usize = 3 << 20;

fn files(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("large")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_large_mail_comes_back_byte_for_byte_and_stays_out_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.enqueue(sized(1, "soc", 25 << 20)).await.unwrap();
    assert!(fs::metadata(folder.path().join("spool.db-wal")).unwrap().len() < 1 << 20);
    spool.close().await;
    let spool = open(folder.path());
    assert!(spool.reader().content(id(1)).await.unwrap() == Some(content(1, 25 << 20)));
    assert_eq!(spool.reader().show(id(1)).await.unwrap().unwrap().size, 25 << 20);
}

#[tokio::test]
async fn a_large_mail_whose_id_is_taken_leaves_the_other_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.enqueue(sized(1, "soc", SIZE)).await.unwrap();
    let second = Entry { id: id(1), ..sized(2, "soc", SIZE) };
    assert_eq!(spool.enqueue(second).await, Err(PutError::IdTaken));
    assert!(spool.reader().content(id(1)).await.unwrap() == Some(content(1, SIZE)));
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_large_mail_that_does_not_fit_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { max_size: Some(5 << 20), ..config(folder.path()) };
    let spool = Spool::open(&config, clock()).unwrap();
    spool.enqueue(sized(1, "soc", SIZE)).await.unwrap();
    assert_eq!(spool.enqueue(sized(2, "soc", SIZE)).await, Err(PutError::Full));
    assert_eq!(files(folder.path()).len(), 1);
    assert!(spool.enqueue(mail(3, "soc")).await.is_ok());
}

#[tokio::test]
async fn a_file_goes_with_its_mail_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let spool = open_at(folder.path(), &clock);
    let seq = spool.enqueue(sized(1, "soc", SIZE)).await.unwrap()[0].seq;
    spool.enqueue(sized(2, "soc", SIZE)).await.unwrap();
    clock.advance(SignedDuration::from_hours(8 * 24));
    assert_eq!(spool.purge().await, Ok(0));
    spool.record(vec![Outcome::Delivered { seq, event_id: None, at: start(), by_way: None }]).await.unwrap();
    assert_eq!(spool.purge().await, Ok(1));
    spool.close().await;
    assert_eq!(files(folder.path()).len(), 1);
    assert!(open(folder.path()).reader().content(id(2)).await.unwrap() == Some(content(2, SIZE)));
}

#[tokio::test]
async fn what_a_crash_left_without_a_mail_is_removed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.enqueue(sized(1, "soc", SIZE)).await.unwrap();
    spool.close().await;
    let kept = files(folder.path());
    let large = folder.path().join("large");
    // One of a mail that is not there, one of a mail that has another, and one that is not ours.
    for name in [format!("{}-0", id(2)), format!("{}-9", id(1)), "notes".to_owned()] {
        fs::write(large.join(name), "x").unwrap();
    }
    let spool = open(folder.path());
    let mut left = files(folder.path());
    left.retain(|name| name != "notes");
    assert_eq!(left, kept);
    assert!(large.join("notes").exists());
    assert!(spool.reader().content(id(1)).await.unwrap() == Some(content(1, SIZE)));
}
