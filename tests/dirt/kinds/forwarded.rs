//! A mail that a forwarder passes on.

use super::html::*;
use super::*;

fn head(subject: &str) -> Vec<(String, String)> {
    let fields = [
        (
            "Received",
            "from ops.example (ops.example [10.1.2.3]) by gw.example; Mon, 30 Nov 2026 10:01:00 +0000",
        ),
        ("From", "Helpdesk <helpdesk@ops.example>"),
        ("To", "soc@gw.example"),
        ("Subject", subject),
        ("Date", "Mon, 30 Nov 2026 10:01:00 +0000"),
        ("Message-ID", "<forwarded@ops.example>"),
    ];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The whole mail as a file of one of the forwarder.
fn attached(raw: &str, subject: &str, note: &str, encoded: bool) -> Option<Vec<u8>> {
    let part = |fields: &[(&str, &str)], bytes: String| Part {
        fields: Vec::new(),
        body: Body::Other {
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            bytes: bytes.into_bytes(),
        },
    };
    let note = Part { fields: Vec::new(), body: Body::Text { html: false, text: note.to_owned() } };
    let letter = if encoded {
        let fields = [
            ("Content-Type", "application/octet-stream; name=\"alert.eml\""),
            ("Content-Disposition", "attachment; filename=\"alert.eml\""),
            ("Content-Transfer-Encoding", "base64"),
        ];
        part(&fields, base64(raw.replace('\n', "\r\n").as_bytes()))
    } else {
        part(&[("Content-Type", "message/rfc822"), ("Content-Disposition", "attachment")], raw.to_owned())
    };
    let body = Body::Parts { kind: "mixed".into(), parameters: String::new(), parts: vec![note, letter] };
    Some(Part { fields: head(subject), body }.write(Transfer::Bits8, "=_forward"))
}

/// What the head of a forwarded mail shows, on one line each.
struct Shown {
    from: String,
    to: String,
    subject: String,
    date: String,
}

impl Shown {
    /// What a mail program shows of a mail; none if it has no subject or no sender.
    fn of(part: &Part) -> Option<Self> {
        let decoded = smtp2signl4::mail::Message::parse(&part.write(Transfer::Bits8, "x"));
        // The subject as it was: what was undone in it is part of it.
        let subject = decoded.header("Subject").next()?.to_owned();
        let from = decoded.from.first()?;
        let name = if from.name.is_empty() { &from.address } else { &from.name };
        let to = decoded.to.first().map_or("soc@gw.example", |to| to.address.as_str());
        Some(Self {
            from: format!("{name} <{}>", from.address),
            to: to.to_owned(),
            subject,
            date: part.field("Date").unwrap_or_else(|| "Mon, 30 Nov 2026 10:00:00 +0000".to_owned()),
        })
    }
}

/// The mail within the text of one of the forwarder: `make` gets what is shown and the text.
fn inline(part: &Part, mark: &str, make: fn(&Shown, &str) -> String) -> Option<Vec<u8>> {
    if part.text(HTML).is_some() && part.text(PLAIN).is_none() {
        return None;
    }
    let (shown, text) = (Shown::of(part)?, part.text(PLAIN)?);
    let text = make(&shown, text.trim_end());
    written(&Part {
        fields: head(&format!("{mark}{}", shown.subject)),
        body: Body::Text { html: false, text },
    })
}

/// The same as HTML: `make` gets what is shown and the page, or the text as one.
fn inline_html(part: &Part, make: fn(&Shown, &str) -> String) -> Option<Vec<u8>> {
    let shown = Shown::of(part)?;
    let page = html(part)?;
    let page = page.text(HTML)?;
    let lower = page.to_ascii_lowercase();
    let begin = lower.find("<body").and_then(|at| Some(at + lower[at..].find('>')? + 1)).unwrap_or(0);
    let end = lower.rfind("</body").unwrap_or(page.len());
    let text = make(&shown, &page[begin..end]);
    written(&Part { fields: head(&format!("FW: {}", shown.subject)), body: Body::Text { html: true, text } })
}

fn as_gmail(shown: &Shown, text: &str) -> String {
    format!(
        "please have a look\n\n---------- Forwarded message ---------\nFrom: {}\nDate: {}\nSubject: {}\nTo: <{}>\n\n\n{text}\n",
        shown.from, shown.date, shown.subject, shown.to
    )
}

fn as_outlook(shown: &Shown, text: &str) -> String {
    format!(
        "FYI\n\nKim\n\nFrom: {}\nSent: Monday, November 30, 2026 10:00 AM\nTo: {}\nSubject: {}\n\n{text}\n",
        shown.from, shown.to, shown.subject
    )
}

/// A forwarder whom the site names passes the mail on.
pub const FORWARDED: &[Dirt] = &[
    ("forwarded as a file", |_, raw| attached(raw, "FW: alert", "please have a look\n", false)),
    ("forwarded as a file without a note", |_, raw| attached(raw, "alert", "\n", false)),
    ("forwarded as an encoded file", |_, raw| {
        attached(raw, "[Ticket#2026113010000012] alert", "FYI\n", true)
    }),
    ("forwarded by Gmail", |part, _| inline(part, "Fwd: ", as_gmail)),
    ("forwarded by Outlook", |part, _| inline(part, "FW: ", as_outlook)),
    ("forwarded by a German Outlook", |part, _| {
        inline(part, "WG: ", |shown, text| {
            format!(
                "-----Ursprüngliche Nachricht-----\nVon: {} \nGesendet: Montag, 30. November 2026 10:00\nAn: {}\nBetreff: {}\n\n{text}\n",
                shown.from, shown.to, shown.subject
            )
        })
    }),
    ("forwarded by Thunderbird", |part, _| {
        inline(part, "Fwd: ", |shown, text| {
            format!(
                "\n\n-------- Forwarded Message --------\nSubject: \t{}\nDate: \t{}\nFrom: \t{}\nTo: \t{}\n\n\n\n{text}\n",
                shown.subject, shown.date, shown.from, shown.to
            )
        })
    }),
    ("forwarded by Apple Mail", |part, _| {
        inline(part, "Fwd: ", |shown, text| {
            let quoted: String = text.split('\n').map(|line| format!("> {line}\n")).collect();
            format!(
                "See below.\n\nBegin forwarded message:\n\n> From: {}\n> Subject: {}\n> Date: {}\n> To: {}\n> \n{quoted}",
                shown.from, shown.subject, shown.date, shown.to
            )
        })
    }),
    ("forwarded by a helpdesk", |part, _| {
        inline(part, "[Ticket#2026113010000012] ", |shown, text| {
            format!(
                "Dear team,\n\nthis came in at the helpdesk.\n\n---- Forwarded message from {} ---\n\nFrom: {}\nTo: {}\nSubject: {}\nCreated: 11/30/2026 10:00\n\n{text}\n---- End forwarded message ---\n\nYour helpdesk team\n",
                shown.from, shown.from, shown.to, shown.subject
            )
        })
    }),
    ("forwarded by Outlook as HTML", |part, _| {
        inline_html(part, |shown, page| {
            of_outlook(&format!(
                "<p class=MsoNormal>FYI<o:p></o:p></p><p class=MsoNormal><o:p>&nbsp;</o:p></p><div><div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm'><p class=MsoNormal><b>From:</b> {} <br><b>Sent:</b> Monday, November 30, 2026 10:00 AM<br><b>To:</b> {}<br><b>Subject:</b> {}<o:p></o:p></p></div></div><p class=MsoNormal><o:p>&nbsp;</o:p></p>{page}",
                escaped(&shown.from),
                escaped(&shown.to),
                kept(&escaped(&shown.subject))
            ))
        })
    }),
    ("forwarded by Gmail as HTML", |part, _| {
        inline_html(part, |shown, page| {
            format!(
                "<div dir=\"ltr\">please have a look<br><br><div class=\"gmail_quote\"><div dir=\"ltr\" class=\"gmail_attr\">---------- Forwarded message ---------<br>From: <strong class=\"gmail_sendername\" dir=\"auto\">{}</strong><br>Date: {}<br>Subject: {}<br>To: &lt;<a href=\"mailto:{}\">{}</a>&gt;<br></div><br><br>{page}</div></div>\n",
                escaped(&shown.from),
                shown.date,
                kept(&escaped(&shown.subject)),
                shown.to,
                shown.to
            )
        })
    }),
];
