//! The body of an event that takes files along: `multipart/form-data` (RFC 7578), the same fields as the
//! JSON and then the files, each as it was chosen when its mail was judged. The content is read from the
//! spool when it is needed and forgotten when it was sent.
//!
//! The alert comes first. When the content is gone, when SIGNL4 refuses the form, and on every second try
//! after the first few, the event goes without its files and says so in the tile for them.

use std::sync::Arc;

use memchr::memmem;
use serde_json::{Map, Value};
use tracing::warn;

use super::storage::Storage;
use super::webhook::{Answer, Endpoint, Form, Webhook};
use crate::event::{ATTACHMENTS_TILE, Attachment, shown_size};
use crate::mail::{FileContent, MailId, file_contents};

/// Tries from which on every second one goes without the files: the line may be too slow for them, or
/// something on the way dislikes them, and when nothing gets through it is as good as any other try.
const PATIENT_TRIES: u32 = 3;

/// The files of an event on its way.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) seq: u64,
    pub(super) mail: MailId,
    /// Posts of the event that failed so far.
    pub(super) attempts: u32,
    pub(super) attachments: Arc<[Attachment]>,
}

/// Posts the event whose JSON is `payload` with `files`, or without them if that is all that can be done.
pub(super) async fn post<S: Storage>(
    webhook: &Webhook,
    endpoint: &Endpoint,
    storage: &S,
    payload: Arc<str>,
    files: &Files,
) -> Answer {
    let why = if files.attempts >= PATIENT_TRIES && files.attempts % 2 == 1 {
        "the tries with it failed"
    } else {
        let _room = webhook.room_for_files().await;
        match form(storage, &payload, files).await {
            Err(why) => why,
            Ok(form) => match webhook.post_form(endpoint, form).await {
                // It may be the files.
                Answer::Refused { reason } => {
                    let Files { seq, mail, .. } = files;
                    warn!(%mail, seq, reason, "SIGNL4 refuses the event with its files: it goes without them");
                    "SIGNL4 refused it"
                }
                answer => return answer,
            },
        }
    };
    let Files { seq, mail, attachments, .. } = files;
    warn!(%mail, seq, files = attachments.len(), why, "an event goes without its files");
    webhook.post(endpoint, without_files(&payload, attachments, why).into()).await
}

/// Makes the form; why not, in words for the tile.
async fn form<S: Storage>(storage: &S, payload: &Arc<str>, files: &Files) -> Result<Form, &'static str> {
    let content = match storage.content(files.mail).await {
        Ok(Some(content)) => content,
        Ok(None) => return Err("the mail is no longer kept"),
        Err(_) => return Err("the mail cannot be read"),
    };
    let (payload, attachments) = (Arc::clone(payload), Arc::clone(&files.attachments));
    // Decoding megabytes takes milliseconds, which other posts need not wait for.
    let made = tokio::task::spawn_blocking(move || {
        let places: Vec<usize> = attachments.iter().map(|file| file.place).collect();
        let found = file_contents(&content, &places);
        drop(content);
        let (mut along, mut behind) = (Vec::new(), Vec::new());
        for (file, found) in attachments.iter().zip(found) {
            match found.and_then(|found| leaving(file, found)) {
                Some(bytes) => along.push((file, bytes)),
                None => behind.push(file.clone()),
            }
        }
        if along.is_empty() {
            return Err("it cannot be decoded");
        }
        let payload = if behind.is_empty() {
            payload.to_string()
        } else {
            without_files(&payload, &behind, "it cannot be decoded")
        };
        Ok(encode(&payload, &along))
    });
    made.await.unwrap_or(Err("reading it failed"))
}

/// What leaves of a file.
fn leaving(file: &Attachment, content: FileContent) -> Option<Vec<u8>> {
    match content {
        FileContent::Text(text) => file.redacted(&text).map(String::into_bytes),
        // Not a text that was looked at, whatever it is now.
        FileContent::Bytes(_) if file.media_type.starts_with("text/") => None,
        FileContent::Bytes(bytes) => Some(bytes),
    }
}

/// `payload` with a line for each of `files` in the tile for those that stay behind.
fn without_files(payload: &str, files: &[Attachment], why: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(payload) else {
        return payload.to_owned();
    };
    let lines = files.iter().map(|file| format!("{} ({}, {why})", file.name, shown_size(file.size)));
    let before = fields.get(ATTACHMENTS_TILE).and_then(Value::as_str).map(str::to_owned);
    let tile = before.into_iter().chain(lines).collect::<Vec<_>>().join("\n");
    fields.insert(ATTACHMENTS_TILE.to_owned(), tile.into());
    Value::Object(fields).to_string()
}

/// Writes the form: each field of the JSON as a part of its own, then the files.
fn encode(payload: &str, files: &[(&Attachment, Vec<u8>)]) -> Form {
    let fields: Map<String, Value> = serde_json::from_str(payload).unwrap_or_default();
    let boundary = boundary(payload, files);
    let size: usize = payload.len() * 2 + files.iter().map(|(_, content)| content.len() + 512).sum::<usize>();
    let mut body = Vec::with_capacity(size);
    for (name, value) in &fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\n",
            quoted(name)
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(text.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    for (at, (file, content)) in files.iter().enumerate() {
        let charset = if file.media_type.starts_with("text/") { "; charset=utf-8" } else { "" };
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"Attachment{}\"; filename=\"{}\"\r\n\
             Content-Type: {}{charset}\r\n\r\n",
            at + 1,
            quoted(&file.name),
            file.media_type
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Form { content_type: format!("multipart/form-data; boundary={boundary}"), body: body.into() }
}

/// A boundary that stands in none of the parts; the same for the same parts, so that a further try is the
/// same to the byte.
fn boundary(payload: &str, files: &[(&Attachment, Vec<u8>)]) -> String {
    let stands = |boundary: &str| {
        let finder = memmem::Finder::new(boundary);
        finder.find(payload.as_bytes()).is_some()
            || files.iter().any(|(_, content)| finder.find(content).is_some())
    };
    let mut number = 0_u32;
    loop {
        let boundary = format!("smtp2signl4-{number:08x}");
        if !stands(&boundary) {
            return boundary;
        }
        number += 1;
    }
}

/// `text` for the inside of quotes, as browsers write it
/// (<https://html.spec.whatwg.org/#multipart-form-data>).
fn quoted(text: &str) -> String {
    text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn file(name: &str, media_type: &str, redactions: Option<Vec<Vec<(usize, usize)>>>) -> Attachment {
        Attachment { name: name.into(), media_type: media_type.into(), size: 1_500, redactions, place: 0 }
    }

    const PAYLOAD: &str = r#"{"Title":"t \"q\"","X-S4-Filtering":true,"Attachments":"a.zip (2 kB)"}"#;

    #[test]
    fn the_form_has_the_fields_of_the_json_and_then_the_files() {
        let shot = file("sh\"ot.png", "image/png", Some(Vec::new()));
        let form = encode(PAYLOAD, &[(&shot, b"\x89PNG".to_vec())]);
        assert_eq!(form.content_type, "multipart/form-data; boundary=smtp2signl4-00000000");
        let expected = b"--smtp2signl4-00000000\r\nContent-Disposition: form-data; name=\"Title\"\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\r\nt \"q\"\r\n\
            --smtp2signl4-00000000\r\nContent-Disposition: form-data; name=\"X-S4-Filtering\"\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\r\ntrue\r\n\
            --smtp2signl4-00000000\r\nContent-Disposition: form-data; name=\"Attachments\"\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\r\na.zip (2 kB)\r\n\
            --smtp2signl4-00000000\r\nContent-Disposition: form-data; name=\"Attachment1\"; filename=\"sh%22ot.png\"\r\n\
            Content-Type: image/png\r\n\r\n\x89PNG\r\n--smtp2signl4-00000000--\r\n";
        assert_eq!(form.body, Bytes::from_static(expected));
        assert_eq!(encode(PAYLOAD, &[(&shot, b"\x89PNG".to_vec())]), form, "a further try is the same");
    }

    #[test]
    fn no_file_can_end_its_part() {
        let text = file("a.txt", "text/plain", None);
        let content = b"--smtp2signl4-00000000--\r\n".to_vec();
        assert!(encode("{}", &[(&text, content)]).content_type.ends_with("smtp2signl4-00000001"));
    }

    #[test]
    fn a_text_that_nobody_looked_at_does_not_leave() {
        let text = || FileContent::Text("password: x".to_owned());
        assert_eq!(leaving(&file("a.txt", "text/plain", None), text()), None);
        let looked_at = file("a.txt", "text/plain", Some(vec![vec![(10, 1)]]));
        assert_eq!(leaving(&looked_at, text()).as_deref(), Some(&b"password: [redacted]"[..]));
        let bytes = FileContent::Bytes(b"password: x".to_vec());
        assert_eq!(leaving(&looked_at, bytes), None);
    }

    #[test]
    fn what_stays_behind_is_named() {
        let left = without_files(PAYLOAD, &[file("b.png", "image/png", None)], "SIGNL4 refused it");
        let left: Value = serde_json::from_str(&left).unwrap();
        assert_eq!(left["Attachments"], "a.zip (2 kB)\nb.png (2 kB, SIGNL4 refused it)");
        assert_eq!(left["Title"], "t \"q\"");
    }
}
