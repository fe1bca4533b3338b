//! Reads `multipart/form-data` (RFC 7578) as SIGNL4 takes it: fields, and files of the types and size that it
//! documents (<https://docs.signl4.com/integrations/webhook/webhook.html>).

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value};

/// The extensions of the files that SIGNL4 takes.
const EXTENSIONS: [&str; 15] = [
    "png", "tiff", "tif", "jpeg", "jpg", "gif", "bmp", "mp3", "wav", "aiff", "m4a", "txt", "pdf", "mov",
    "mp4",
];

/// Largest file that SIGNL4 takes, in bytes.
const FILE_LIMIT: usize = 4_000_000;

/// A file in a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The name of its field.
    pub field: String,
    /// The name of the file.
    pub name: String,
    /// Its `Content-Type`.
    pub content_type: String,
    /// Its content.
    pub content: Bytes,
}

/// The fields and files of a form; none if the body is not one.
pub(super) fn read(content_type: &str, body: &Bytes) -> Option<(Value, Vec<File>)> {
    let boundary = content_type.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let mut at = body.starts_with(delimiter.as_bytes()).then_some(delimiter.len())?;
    let next = format!("\r\n{delimiter}");
    let next = memmem::Finder::new(&next);
    let (mut fields, mut files) = (Map::new(), Vec::new());
    while !body[at..].starts_with(b"--") {
        let from = at + body[at..].starts_with(b"\r\n").then_some(2)?;
        let end = from + next.find(&body[from..])?;
        let blank = memmem::find(&body[from..end], b"\r\n\r\n")?;
        let head = std::str::from_utf8(&body[from..from + blank]).ok()?;
        let content = body.slice(from + blank + 4..end);
        let field = parameter(head, "name")?.to_owned();
        match parameter(head, "filename") {
            Some(name) => {
                let content_type = head.lines().find_map(|line| line.strip_prefix("Content-Type: "));
                let content_type = content_type.unwrap_or_default().to_owned();
                files.push(File { field, name: name.to_owned(), content_type, content });
            }
            None => _ = fields.insert(field, String::from_utf8(content.to_vec()).ok()?.into()),
        }
        at = end + 2 + delimiter.len();
    }
    Some((Value::Object(fields), files))
}

/// Whether SIGNL4 takes these files.
pub(super) fn takes(files: &[File]) -> bool {
    files.iter().all(|file| {
        let extension = file.name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
            && file.content.len() <= FILE_LIMIT
    })
}

/// A parameter of Content-Disposition.
fn parameter<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let start = line.find(&format!(" {name}=\""))? + name.len() + 3;
    line[start..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_files_are_told_apart_and_what_is_no_form_is_none() {
        let body = Bytes::from_static(
            b"--x\r\nContent-Disposition: form-data; name=\"Title\"\r\n\r\nt\r\n--x\r\n\
              Content-Disposition: form-data; name=\"A1\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\
              \x89\r\n--\r\n--x--\r\n",
        );
        let (fields, files) = read("multipart/form-data; boundary=x", &body).unwrap();
        assert_eq!(fields, serde_json::json!({ "Title": "t" }));
        assert_eq!((files[0].name.as_str(), &files[0].content[..]), ("a.png", &b"\x89\r\n--"[..]));
        assert!(takes(&files));
        assert!(!takes(&[File { name: "a.exe".into(), ..files[0].clone() }]));
        for wrong in [&b""[..], b"--x", b"--x\r\n\r\n--x--", b"{}"] {
            assert_eq!(read("multipart/form-data; boundary=x", &Bytes::from_static(wrong)), None);
        }
    }
}
