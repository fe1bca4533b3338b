//! What the gateway must remember across a restart.

use serde_json::json;
use smtp2signl4::spool::{Memo, PutError, Spool};

use crate::{mail, open};

fn memo(name: &str, value: Option<u32>) -> Memo {
    Memo { kind: "test", name: name.to_owned(), value: value.map(|value| json!(value)) }
}

async fn kept(spool: &Spool) -> Vec<(String, serde_json::Value)> {
    spool.reader().memos("test").await.unwrap()
}

#[tokio::test]
async fn a_memo_outlives_a_restart_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.remember(vec![memo("a", Some(1)), memo("b", Some(2)), memo("a", Some(3))]).await.unwrap();
    spool.remember(vec![Memo { kind: "other", ..memo("a", Some(9)) }]).await.unwrap();
    spool.close().await;
    let spool = open(folder.path());
    assert_eq!(kept(&spool).await, [("a".to_owned(), json!(3)), ("b".to_owned(), json!(2))]);
    spool.remember(vec![memo("a", None), memo("never there", None)]).await.unwrap();
    assert_eq!(kept(&spool).await, [("b".to_owned(), json!(2))]);
}

#[tokio::test]
async fn a_memo_is_kept_with_its_mail_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.put(mail(1, "soc"), vec![memo("taken", Some(1))]).await.unwrap();
    let refused = spool.put(mail(1, "soc"), vec![memo("refused", Some(1)), memo("taken", None)]).await;
    assert_eq!(refused.err(), Some(PutError::IdTaken));
    assert_eq!(kept(&spool).await, [("taken".to_owned(), json!(1))]);
}
