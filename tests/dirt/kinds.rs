//! What mail systems and people do to a mail on its way.

mod forwarded;
mod html;

use crate::mime::{Body, Part, Transfer, base64};

pub use forwarded::FORWARDED;
pub use html::HTML_ONLY;
use html::{escaped, of_exchange, only_html, without, word};

/// A kind of dirt by its name; none where it cannot happen to a mail.
pub type Dirt = (&'static str, fn(&Part, &str) -> Option<Vec<u8>>);

/// The forwarder that the site of these tests names.
pub const FORWARDER: &str = "helpdesk@ops.example";

const PLAIN: bool = false;
const HTML: bool = true;

fn written(part: &Part) -> Option<Vec<u8>> {
    Some(part.write(Transfer::Bits8, "_004_DB9PR01MB4219"))
}

// Tags

/// Puts `tag` in front of the subject as it stands, in the mail as it came.
fn tagged(raw: &str, tag: &str) -> Option<Vec<u8>> {
    let (head, rest) = raw.split_once("\n\n").unwrap_or((raw, ""));
    let at = if head.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("subject:")) {
        0
    } else {
        head.to_ascii_lowercase().find("\nsubject:")? + 1
    };
    let (above, field) = head.split_at(at + "subject:".len());
    let field = field.strip_prefix(' ').unwrap_or(field);
    Some(format!("{above} {tag}{field}\n\n{rest}").into_bytes())
}

/// Tags in front of the subject.
pub const TAGS: &[Dirt] = &[
    ("tagged [EXTERNAL]", |_, raw| tagged(raw, "[EXTERNAL] ")),
    ("tagged EXTERNAL:", |_, raw| tagged(raw, "EXTERNAL: ")),
    ("tagged [EXT]", |_, raw| tagged(raw, "[EXT] ")),
    ("tagged *** SPAM ***", |_, raw| tagged(raw, "*** SPAM *** ")),
    ("tagged [SUSPICIOUS] WG:", |_, raw| tagged(raw, "[SUSPICIOUS] WG: ")),
    ("tagged FW: [EXTERNAL] Fwd:", |_, raw| tagged(raw, "FW: [EXTERNAL] Fwd: ")),
    ("tagged by a list", |_, raw| {
        let tagged = tagged(raw, "[alerts] ")?;
        Some([b"List-Id: <alerts.lists.ops.example>\n".to_vec(), tagged].concat())
    }),
];

// Banners and footers

/// Puts a paragraph above or below each text.
fn around(part: &Part, above: &[&str], below: &[&str]) -> Option<Part> {
    let mut part = part.clone();
    let found = part.texts(&mut |html, text| {
        let block = |lines: &[&str], table: bool| match (lines, *html, table) {
            ([], ..) => String::new(),
            (_, false, _) => lines.join("\n"),
            (_, true, true) => format!(
                "<table border=0 width=\"100%\"><tbody><tr><td bgcolor=\"#ffeb9c\"><span>{}</span></td></tr></tbody></table><br>\n",
                lines.join("<br>")
            ),
            (_, true, false) => format!("<br>\n<hr>\n<p style=\"font-size:9pt\">{}</p>\n", lines.join("<br>\n")),
        };
        let (above, below) = (block(above, true), block(below, false));
        if *html {
            let lower = text.to_ascii_lowercase();
            let begin = lower.find("<body").and_then(|at| Some(at + lower[at..].find('>')? + 1)).unwrap_or(0);
            let end = lower.rfind("</body").unwrap_or(text.len());
            *text = format!("{}{above}{}{below}{}", &text[..begin], &text[begin..end], &text[end..]);
        } else {
            let gap = |text: &str| if text.is_empty() { "" } else { "\n\n" };
            *text = format!("{above}{}{}{}{below}\n", gap(&above), text.trim_end_matches('\n'), gap(&below));
        }
    });
    found.then_some(part)
}

const CAUTION: &[&str] = &[
    "CAUTION: This email originated from outside of the organization. Do not click links or open attachments unless you recognize the sender and know the content is safe.",
];
const WRAPPED: &[&str] = &[
    "CAUTION: This email originated from outside of the organization. Do",
    "not click links or open attachments unless you recognize the sender",
    "and know the content is safe.",
];
const OFTEN: &[&str] = &[
    "You don't often get email from monitor@mon.example. Learn why this is important<https://aka.ms/LearnAboutSenderIdentification>",
];
const GERMAN: &[&str] = &[
    "ACHTUNG: Diese E-Mail kommt von außerhalb des Unternehmens. Öffnen Sie keine Links oder Anhänge unbekannter Absender.",
];
const DISCLAIMER: &[&str] = &[
    "________________________________",
    "This e-mail and any attachments are confidential and intended only for the addressee. If it reached you by mistake, please delete it. Example Corp, Reg. 123.",
];
const BARE: &[&str] = &[
    "CONFIDENTIALITY NOTICE: This message is for the addressee only.",
    "If you are not the intended recipient, please delete it and tell the sender.",
];
const LIST: &[&str] = &[
    "_______________________________________________",
    "alerts mailing list -- alerts@lists.ops.example",
    "To unsubscribe send an email to alerts-leave@lists.ops.example",
];

/// Banners above the text.
pub const BANNERS: &[Dirt] = &[
    ("a banner", |part, _| written(&around(part, CAUTION, &[])?)),
    ("a banner of three lines", |part, _| written(&around(part, WRAPPED, &[])?)),
    ("a banner of Outlook", |part, _| written(&around(part, OFTEN, &[])?)),
    ("a German banner", |part, _| written(&around(part, GERMAN, &[])?)),
];

/// Footers below the text.
pub const FOOTERS: &[Dirt] = &[
    ("a disclaimer", |part, _| written(&around(part, &[], DISCLAIMER)?)),
    ("a disclaimer without a ruler", |part, _| written(&around(part, &[], BARE)?)),
    ("a list's footer", |part, _| written(&around(part, &[], LIST)?)),
    ("a list's footer in a part of its own", |part, _| written(&in_a_list(part))),
    ("a banner and a disclaimer", |part, _| written(&around(part, CAUTION, DISCLAIMER)?)),
    ("a banner and both footers", |part, _| written(&around(&around(part, &[], BARE)?, WRAPPED, LIST)?)),
];

fn in_a_list(part: &Part) -> Part {
    let inner = Part { fields: Vec::new(), body: part.body.clone() };
    let text = format!("{}\n", LIST.join("\n"));
    let footer = Part { fields: Vec::new(), body: Body::Text { html: false, text } };
    let body = Body::Parts { kind: "mixed".into(), parameters: String::new(), parts: vec![inner, footer] };
    Part { fields: part.fields.clone(), body }
}

// MIME

/// Each plain text with an HTML version beside it, as relays add one.
fn with_html_beside(part: &Part) -> Option<Part> {
    let Body::Text { html: false, text } = &part.body else { return None };
    let lines: Vec<String> = text.trim_end().split('\n').map(escaped).collect();
    let version = |html, text| Part { fields: Vec::new(), body: Body::Text { html, text } };
    let parts = vec![version(PLAIN, text.clone()), version(HTML, of_exchange(&lines))];
    let body = Body::Parts { kind: "alternative".into(), parameters: String::new(), parts };
    Some(Part { fields: part.fields.clone(), body })
}

/// Each line that is long broken as format=flowed has it.
fn flowed(part: &Part) -> Option<Vec<u8>> {
    let Body::Text { html: false, text } = &part.body else { return None };
    let mut out = String::new();
    for line in text.trim_end().split('\n') {
        let mut length = 0;
        let stuffed = if line.starts_with([' ', '>']) || line.starts_with("From ") { " " } else { "" };
        out.push_str(stuffed);
        for word in line.trim_end().split_inclusive(' ') {
            if length > 0 && length + word.len() > 70 {
                out.push('\n');
                length = 0;
            }
            length += word.len();
            out.push_str(word);
        }
        out.push('\n');
    }
    let mut part = part.clone();
    part.body = Body::Other {
        fields: vec![
            ("Content-Type".into(), "text/plain; charset=utf-8; format=flowed".into()),
            ("Content-Transfer-Encoding".into(), "8bit".into()),
        ],
        bytes: out.into_bytes(),
    };
    written(&part)
}

/// MIME that a relay wrote anew.
pub const REWRITTEN: &[Dirt] = &[
    ("other boundaries", |part, _| Some(part.write(Transfer::Bits8, "_000_DB9PR01MB4219A1B2C3"))),
    ("quoted-printable", |part, _| Some(part.write(Transfer::QuotedPrintable, "=_x"))),
    ("base64", |part, _| Some(part.write(Transfer::Base64, "=_x"))),
    ("a part around it", |part, _| {
        let inner = Part { fields: Vec::new(), body: part.body.clone() };
        let body = Body::Parts { kind: "mixed".into(), parameters: String::new(), parts: vec![inner] };
        written(&Part { fields: part.fields.clone(), body })
    }),
    ("an HTML version beside the text", |part, _| written(&with_html_beside(part)?)),
    ("only the plain version", |part, _| written(&without(part, HTML)?)),
    ("lines broken as format=flowed", |part, _| flowed(part)),
    ("no-break spaces", |part, _| {
        let mut part = part.clone();
        let found = part.texts(&mut |html, text| {
            *text = match html {
                true => text.replace(": ", ":&nbsp;"),
                false => text.replace(": ", ":\u{a0}").replace("  ", " \u{a0}"),
            };
        });
        found.then(|| written(&part))?
    }),
    ("fields of Exchange", |part, _| {
        let mut part = part.clone();
        let fields = [
            (
                "Received",
                "from ex1.ops.example (10.1.2.3) by ex2.ops.example\n (10.1.2.4) with HTTPS; Mon, 30 Nov 2026 10:00:00 +0000",
            ),
            ("X-MS-Exchange-Organization-SCL", "-1"),
            ("X-MS-Exchange-CrossTenant-Network-Message-Id", "7f3a9c21-0000-4000-8000-000000000000"),
            ("X-Microsoft-Antispam", "BCL:0;"),
        ];
        part.fields.extend(fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        written(&part)
    }),
];

// Links

/// Each link in `text` as `rewrite` has it; none if there is none.
fn relinked(text: &str, rewrite: &dyn Fn(&str) -> String) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut any = false;
    while let Some(at) = [rest.find("https://"), rest.find("http://")].into_iter().flatten().min() {
        let end = rest[at..].find(|c: char| c.is_whitespace() || "<>\"'".contains(c));
        let link = &rest[at..end.map_or(rest.len(), |end| at + end)];
        let link = link.trim_end_matches(['.', ',', ';', ')', ']']);
        out.push_str(&rest[..at]);
        out.push_str(&rewrite(link));
        rest = &rest[at + link.len()..];
        any = true;
    }
    any.then(|| out + rest)
}

fn with_links(part: &Part, plain: &dyn Fn(&str) -> String, html: &dyn Fn(&str) -> String) -> Option<Vec<u8>> {
    let mut part = part.clone();
    let mut any = false;
    part.texts(&mut |is_html, text| {
        let changed = if *is_html { in_attributes(text, html) } else { relinked(text, plain) };
        if let Some(changed) = changed {
            *text = changed;
            any = true;
        }
    });
    any.then(|| written(&part))?
}

/// Rewrites the targets of links and leaves what is shown.
fn in_attributes(page: &str, rewrite: &dyn Fn(&str) -> String) -> Option<String> {
    let mut pieces = page.split("href=\"");
    let mut out = pieces.next()?.to_owned();
    let mut any = false;
    for piece in pieces {
        let (link, rest) = piece.split_once('"')?;
        let written = link.replace("&amp;", "&");
        let target = if link.starts_with("http") { rewrite(&written) } else { written };
        any |= link.starts_with("http");
        out.push_str(&format!("href=\"{}\"{rest}", target.replace('&', "&amp;")));
    }
    any.then_some(out)
}

fn percent_encoded(link: &str) -> String {
    link.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn safe_link(link: &str) -> String {
    format!(
        "https://eur01.safelinks.protection.outlook.com/?url={}&data=05%7C01%7Csoc%40gw.example%7C7f3a&sdata=x%2By&reserved=0",
        percent_encoded(link)
    )
}

fn proofpoint_v2(link: &str) -> String {
    let link =
        percent_encoded(link).replace('-', "%2D").replace('_', "%5F").replace("%2F", "_").replace('%', "-");
    format!("https://urldefense.proofpoint.com/v2/url?u={link}&d=DwMFaQ&c=x&r=y&m=z&s=w&e=")
}

fn proofpoint_v3(link: &str) -> String {
    let odd: Vec<u8> = link.bytes().filter(|byte| b"#%&?=*!".contains(byte)).collect();
    let bare: String = link.chars().map(|c| if "#%&?=*!".contains(c) { '*' } else { c }).collect();
    // A run of two stars says a length: those that write it break it up by such runs.
    let encoded = base64(&odd).trim().replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
    format!("https://urldefense.com/v3/__{bare}__;{encoded}!!AbCdEf!x-y_z$")
}

/// Links that a filter rewrote.
pub const LINKS: &[Dirt] = &[
    ("Safe Links", |part, _| with_links(part, &safe_link, &safe_link)),
    ("urldefense, version 2", |part, _| with_links(part, &proofpoint_v2, &proofpoint_v2)),
    ("urldefense, version 3", |part, _| with_links(part, &proofpoint_v3, &proofpoint_v3)),
    ("links that are shown and rewritten behind it", |part, _| {
        with_links(part, &|link| format!("{link}<{}>", safe_link(link)), &safe_link)
    }),
    ("HTML of Outlook with rewritten links", |part, _| {
        let mut part = only_html(part, word)?;
        let mut any = false;
        part.texts(&mut |_, text| {
            let (head, body) = text.split_once("<body").expect("Outlook's page has a body");
            let linked = relinked(body, &|link| {
                let plain = link.replace("&amp;", "&");
                format!("<a href=\"{}\">{link}</a>", safe_link(&plain).replace('&', "&amp;"))
            });
            any = linked.is_some();
            *text = format!("{head}<body{}", linked.as_deref().unwrap_or(body));
        });
        any.then(|| written(&part))?
    }),
];
