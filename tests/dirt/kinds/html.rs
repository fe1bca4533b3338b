//! A mail of which only HTML is left.

use super::*;

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The text of a part that has no HTML, made into HTML by `make`, which gets the escaped lines.
pub(super) fn only_html(part: &Part, make: fn(&[String]) -> String) -> Option<Part> {
    if part.text(HTML).is_some() {
        return None;
    }
    let mut part = part.clone();
    let found = part.texts(&mut |html, text| {
        let lines: Vec<String> = text.trim_end().split('\n').map(|line| escaped(line.trim_end())).collect();
        *text = make(&lines);
        *html = true;
    });
    found.then_some(part)
}

/// Blanks at the start of a line and between words, as programs that make HTML keep them.
pub(super) fn kept(line: &str) -> String {
    let bare = line.trim_start_matches(' ');
    "&nbsp;".repeat(line.len() - bare.len())
        + &bare.replace("  ", "&nbsp; ").replace('\t', "&nbsp;&nbsp;&nbsp; ")
}

/// Each line in an element, an empty one as a break in it.
pub(super) fn each_in(lines: &[String], open: &str, empty: &str, close: &str) -> String {
    lines
        .iter()
        .map(|line| {
            if line.is_empty() {
                format!("{open}{empty}{close}\n")
            } else {
                format!("{open}{}{close}\n", kept(line))
            }
        })
        .collect()
}

pub(super) fn of_exchange(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| kept(line)).collect();
    format!(
        "<html>\n<head>\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\">\n<meta name=\"Generator\" content=\"Microsoft Exchange Server\">\n<!-- converted from text --><style><!-- .EmailQuote {{ margin-left: 1pt; }} --></style></head>\n<body>\n<font size=\"2\"><span style=\"font-size:11pt;\"><div class=\"PlainText\">{}</div></span></font>\n</body>\n</html>\n",
        lines.join("<br>\n")
    )
}

/// As Outlook writes a page: `word` are its paragraphs.
pub(super) fn of_outlook(word: &str) -> String {
    format!(
        "<html xmlns:v=\"urn:schemas-microsoft-com:vml\" xmlns:o=\"urn:schemas-microsoft-com:office:office\" xmlns:w=\"urn:schemas-microsoft-com:office:word\" xmlns=\"http://www.w3.org/TR/REC-html40\"><head><meta http-equiv=Content-Type content=\"text/html; charset=utf-8\"><meta name=Generator content=\"Microsoft Word 15 (filtered medium)\"><!--[if !mso]><style>v\\:* {{behavior:url(#default#VML);}}</style><![endif]--><style><!--\n/* Style Definitions */\np.MsoNormal, li.MsoNormal, div.MsoNormal\n\t{{margin:0cm; font-size:11.0pt;}}\n--></style><!--[if gte mso 9]><xml>\n<o:shapedefaults v:ext=\"edit\" spidmax=\"1026\" />\n</xml><![endif]--></head><body lang=EN-US link=\"#0563C1\" vlink=\"#954F72\" style='word-wrap:break-word'><div class=WordSection1>{word}</div></body></html>"
    )
}

pub(super) fn word(lines: &[String]) -> String {
    of_outlook(&each_in(lines, "<p class=MsoNormal>", "<o:p>&nbsp;</o:p>", "<o:p></o:p></p>"))
}

/// The HTML that the sender wrote, after Outlook or Exchange wrote it anew.
pub(super) fn through_outlook(part: &Part) -> Option<Part> {
    part.text(HTML)?;
    let mut part = part.clone();
    part.texts(&mut |html, text| {
        if *html {
            let lower = text.to_ascii_lowercase();
            let begin = lower.find("<body").and_then(|at| Some(at + lower[at..].find('>')? + 1)).unwrap_or(0);
            let end = lower.rfind("</body").unwrap_or(text.len());
            let body =
                text[begin..end].replace("<p>", "<p class=MsoNormal>").replace("</p>", "<o:p></o:p></p>");
            *text = of_outlook(&body.replace("</td>", "<o:p></o:p></td>"));
        }
    });
    Some(part)
}

/// Without the versions of this kind, where there is one of the other.
pub(super) fn without(part: &Part, gone: bool) -> Option<Part> {
    let mut part = part.clone();
    fn prune(part: &mut Part, gone: bool) -> bool {
        let Body::Parts { kind, parts, .. } = &mut part.body else { return false };
        let mut any = false;
        for part in parts.iter_mut() {
            any |= prune(part, gone);
        }
        if kind == "alternative" && parts.iter().any(|part| part.text(!gone).is_some()) {
            let before = parts.len();
            parts.retain(|part| !matches!(part.body, Body::Text { html, .. } if html == gone));
            any |= parts.len() < before;
        }
        if let (true, 1) = (any, parts.len())
            && let Some(only) = parts.pop()
        {
            part.fields.extend(only.fields);
            part.body = only.body;
        }
        any
    }
    prune(&mut part, gone).then_some(part)
}

/// The mail as HTML alone, whatever it was.
pub(super) fn html(part: &Part) -> Option<Part> {
    without(part, PLAIN)
        .or_else(|| only_html(part, of_exchange))
        .or_else(|| part.text(HTML).map(|_| part.clone()))
}

/// Only HTML is left of the mail.
pub const HTML_ONLY: &[Dirt] = &[
    ("only the HTML version", |part, _| written(&without(part, PLAIN)?)),
    ("HTML of Exchange", |part, _| written(&only_html(part, of_exchange)?)),
    ("HTML of Outlook", |part, _| written(&only_html(part, word)?)),
    ("HTML that Outlook wrote anew", |part, _| written(&through_outlook(part)?)),
    ("HTML in lines with breaks", |part, _| {
        written(&only_html(part, |lines| {
            format!("<html><body>{}</body></html>", each_in(lines, "", "", "<br>"))
        })?)
    }),
    ("HTML in divisions", |part, _| {
        written(&only_html(part, |lines| each_in(lines, "<div>", "<br>", "</div>"))?)
    }),
    ("HTML in paragraphs", |part, _| {
        written(&only_html(part, |lines| {
            let text = lines.iter().map(|line| kept(line)).collect::<Vec<_>>().join("\n");
            text.split("\n\n").map(|lines| format!("<p>{}</p>\n", lines.replace('\n', "<br>\n"))).collect()
        })?)
    }),
    ("HTML with each line in a paragraph", |part, _| {
        written(&only_html(part, |lines| each_in(lines, "<p>", "&nbsp;", "</p>"))?)
    }),
    ("HTML in one preformatted block", |part, _| {
        written(&only_html(part, |lines| {
            format!("<html><body><pre>{}</pre></body></html>", lines.join("\n"))
        })?)
    }),
    ("HTML in rows of a table", |part, _| {
        written(&only_html(part, |lines| {
            let rows = each_in(lines, "<tr><td style=\"padding:2px\">", "&nbsp;", "</td></tr>");
            format!("<table cellpadding=0>{rows}</table>")
        })?)
    }),
    ("HTML, a tag and a banner", |part, _| {
        let mut part = around(&html(part)?, CAUTION, &[])?;
        part.prefix("Subject", "[EXTERNAL] ").then(|| written(&part))?
    }),
    ("Outlook's HTML, a tag, a banner and a disclaimer", |part, _| {
        let part = only_html(part, word).or_else(|| through_outlook(part))?;
        let mut part = around(&part, OFTEN, DISCLAIMER)?;
        part.prefix("Subject", "[EXT] ").then(|| written(&part))?
    }),
];
