//! What mail systems put above and below the text of a mail: the banner that warns of mail from outside, the
//! disclaimer, the footer of a mailing list, the armour of a PGP signature. Each text is looked at from its ends, a
//! fixed number of paragraphs deep.

use std::sync::LazyLock;

use regex::Regex;

use super::mark::Mark;
use super::phrases;
use super::text::joined;

/// Most banners above a text, and most footers below.
const TIMES: usize = 6;

/// Most lines of a banner.
const BANNER_LINES: usize = 8;

/// Shortest line that was broken for its length, in bytes.
const WRAPPED: usize = 50;

/// Longest banner or footer in bytes.
const LIMIT: usize = 4_000;

/// Bytes at the end of a text in which a footer begins.
const TAIL: usize = 16 * 1024;

/// The banners and footers of a site, beside those that are known everywhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Banners {
    pub(super) site: Vec<Mark>,
}

/// A text without what was put around it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stripped<'t> {
    pub(super) text: &'t str,
    /// How each thing that was taken off is told.
    pub(super) undone: Vec<String>,
}

impl Banners {
    /// `text`, which is tidy, without its banners and footers; as it is if nothing else stands in it.
    pub(super) fn stripped<'t>(&self, text: &'t str) -> Stripped<'t> {
        let stripped = self.bare(text);
        if stripped.text.is_empty() { Stripped { text, undone: Vec::new() } } else { stripped }
    }

    /// Whether there is nothing in `text` but banners and footers.
    pub(super) fn are_all_of(&self, text: &str) -> bool {
        text.len() <= LIMIT && self.bare(text).text.is_empty()
    }

    fn bare<'t>(&self, text: &'t str) -> Stripped<'t> {
        let mut undone = Vec::new();
        let mut rest = text.trim_matches('\n');
        for _ in 0..TIMES {
            let Some(length) = self.above(rest) else { break };
            undone.push(format!("a banner above the text: {}", start(&rest[..length])));
            rest = rest[length..].trim_start_matches(['\n', ' ']);
        }
        for _ in 0..TIMES {
            let Some(from) = self.below(rest) else { break };
            undone.push(format!("a footer below the text: {}", start(&rest[from..])));
            rest = rest[..from].trim_end();
        }
        Stripped { text: rest, undone }
    }

    /// The length of the banner at the top of `text`.
    fn above(&self, text: &str) -> Option<usize> {
        let mut from = 0;
        let first = line(text);
        if is_ruler(first) {
            from = (first.len() + 1).min(text.len());
        }
        let rest = &text[from..];
        let length = self.site.iter().find_map(|mark| match mark {
            Mark::Words(words) => words_length(rest, words),
            Mark::Pattern(pattern) => {
                let paragraph = paragraph(rest);
                let matches = |text: &str| !text.is_empty() && text.len() <= LIMIT && pattern.is_match(text);
                if matches(line(rest)) {
                    Some(line(rest).len())
                } else {
                    matches(&joined(paragraph)).then_some(paragraph.len())
                }
            }
        });
        let length = length.or_else(|| shipped_above(rest))?;
        let mut end = from + length;
        // The line that rules a banner off stands close to it, or by itself; another begins what the sender wrote.
        let after = &text[end..];
        let next = after.trim_start_matches('\n');
        let below = &next[line(next).len()..];
        let close = after.len() - next.len() <= 1;
        if is_ruler(line(next)) && (close || below.is_empty() || below.starts_with("\n\n")) {
            end = text.len() - below.len();
        }
        Some(end)
    }

    /// Where the footer at the end of `text` begins.
    fn below(&self, text: &str) -> Option<usize> {
        let floor = text.ceil_char_boundary(text.len().saturating_sub(TAIL));
        let floor =
            if floor == 0 { 0 } else { text[floor..].find('\n').map_or(text.len(), |at| floor + at + 1) };
        let tail = &text[floor..];
        let found = self.site_below(tail).or_else(|| shipped_below(tail))?;
        let mut from = floor + found;
        // The line that rules it off goes with it.
        loop {
            let above = text[..from].trim_end();
            let last = above.rfind('\n').map_or(0, |at| at + 1);
            if !is_ruler(&above[last..]) || last < floor {
                break;
            }
            from = last;
        }
        Some(from)
    }

    fn site_below(&self, tail: &str) -> Option<usize> {
        let last = tail.rfind('\n').map_or(0, |at| at + 1);
        let paragraph = last_paragraph(tail);
        self.site.iter().find_map(|mark| match mark {
            Mark::Words(words) => {
                let starts = std::iter::once(0).chain(tail.match_indices('\n').map(|(at, _)| at + 1));
                starts.rev_limited().find(|&at| {
                    words_length(&tail[at..], words).is_some_and(|length| {
                        tail[at + length..].trim_matches(['.', ' ', '\n', '_', '-', '=']).is_empty()
                    })
                })
            }
            Mark::Pattern(pattern) => {
                let matches = |from: usize| {
                    tail.len() - from <= LIMIT && !tail.is_empty() && pattern.is_match(&joined(&tail[from..]))
                };
                [last, paragraph].into_iter().find(|&from| matches(from))
            }
        })
    }
}

/// The last of many places, nearest the end first.
trait RevLimited: Iterator<Item = usize> + Sized {
    fn rev_limited(self) -> std::vec::IntoIter<usize> {
        let mut all: Vec<usize> = self.collect();
        all.reverse();
        all.truncate(60);
        all.into_iter()
    }
}

impl<I: Iterator<Item = usize>> RevLimited for I {}

/// What Proofpoint puts around its banners, where no mail program shows it.
const MARKED: [&str; 2] = ["ZjQcmQRYFpfptBannerStart", "ZjQcmQRYFpfptBannerEnd"];

fn shipped_above(text: &str) -> Option<usize> {
    if text.starts_with(MARKED[0]) {
        let head = &text[..text.floor_char_boundary(LIMIT)];
        return head.find(MARKED[1]).map(|end| end + MARKED[1].len());
    }
    let paragraph = paragraph(text);
    let mut found = None;
    let mut end = 0;
    let mut wrapped = true;
    for (number, line) in paragraph.split('\n').take(BANNER_LINES).enumerate() {
        let begin = end + usize::from(number > 0);
        end = begin + line.len();
        // A banner goes on where its line was broken or its sentence ended, and not into fields.
        let field = line.split_once(": ").is_some_and(|(name, _)| name.len() <= 30 && number > 0);
        if !wrapped || field || end > LIMIT {
            break;
        }
        let ends = line.ends_with(['.', '!', ')', ']']);
        wrapped = ends || line.len() >= WRAPPED;
        let whole = end == paragraph.len() || ends || number == 0;
        if whole && phrases::is_banner(&joined(&text[..end])) {
            found = Some(end);
        }
    }
    found
}

fn shipped_below(tail: &str) -> Option<usize> {
    let is_footer = |from: usize| {
        let rest = tail[from..].trim_start_matches(RULER).trim_start_matches(['\n', ' ']);
        let first = paragraph(rest);
        first.len() <= LIMIT && phrases::is_footer(first)
    };
    // Below a ruler all goes if it begins as a footer.
    let mut rulers: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in tail.split('\n') {
        if is_ruler(line) {
            rulers.push(at);
        }
        at += line.len() + 1;
    }
    if let Some(&from) = rulers.iter().rev().take(3).find(|&&from| from > 0 && is_footer(from)) {
        return Some(from);
    }
    let paragraph = last_paragraph(tail);
    if is_footer(paragraph) {
        return Some(paragraph);
    }
    let last = tail.rfind('\n').map_or(0, |at| at + 1);
    (last > paragraph && phrases::is_footer(&tail[last..])).then_some(last)
}

const RULER: [char; 7] = ['_', '-', '=', '*', '~', '#', '—'];

/// Whether a line is drawn to set something off.
fn is_ruler(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 4
        && line.chars().next().is_some_and(|first| RULER.contains(&first) && line.chars().all(|c| c == first))
}

fn line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// The first paragraph of `text`. A search for one byte is several times faster than for two.
fn paragraph(text: &str) -> &str {
    let mut breaks = text.match_indices('\n').map(|(at, _)| at);
    breaks.find(|&at| text[at + 1..].starts_with('\n')).map_or(text, |end| &text[..end])
}

/// Where the last paragraph of `text` begins.
fn last_paragraph(text: &str) -> usize {
    let mut breaks = text.rmatch_indices('\n').map(|(at, _)| at);
    breaks.find(|&at| text[..at].ends_with('\n')).map_or(0, |at| at + 1)
}

/// How a thing that was taken off is quoted.
fn start(text: &str) -> String {
    let text = joined(&text[..text.floor_char_boundary(400)]);
    let text = text.trim_start_matches(RULER).trim_start();
    match text.char_indices().nth(60) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
    }
}

/// The length of `words`, which are in lower case, at the start of `text`, however its lines are broken.
fn words_length(text: &str, words: &[String]) -> Option<usize> {
    let mut rest = text;
    for word in words {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        if rest[..end].to_lowercase() != *word {
            return None;
        }
        rest = &rest[end..];
    }
    (!words.is_empty()).then_some(text.len() - rest.len())
}

/// The text that a PGP signature in the clear (RFC 9580 section 7) stands around, with what is above and below it.
pub(super) fn without_armour(text: &str) -> Option<String> {
    static BEGIN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)^-----BEGIN PGP SIGNED MESSAGE-----$\n(?:[A-Za-z-]+: [^\n]*\n){0,10}\n?")
            .expect("the pattern is fixed")
    });
    let begin = BEGIN.find(text)?;
    let rest = &text[begin.end()..];
    let signature = rest.find("\n-----BEGIN PGP SIGNATURE-----")?;
    let after = rest[signature..].split_once("-----END PGP SIGNATURE-----").map_or("", |(_, after)| after);
    let mut out = text[..begin.start()].to_owned();
    for line in rest[..signature].split('\n') {
        out.push_str(line.strip_prefix("- ").unwrap_or(line));
        out.push('\n');
    }
    out.push_str(after);
    Some(out.trim_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(text: &str) -> &str {
        Banners::default().stripped(text).text
    }

    fn site(marks: &[&str]) -> Banners {
        Banners { site: marks.iter().map(|mark| Mark::read(mark).unwrap()).collect() }
    }

    #[test]
    fn a_banner_that_warns_of_mail_from_outside_goes() {
        for banner in [
            "CAUTION: This message came from outside the company. Do not open links or files unless you know the sender.",
            "CAUTION: This email originated from outside of the organization. Do not click links or open\nattachments unless you recognize the sender and know the content is safe.",
            "EXTERNAL EMAIL",
            "*** EXTERNAL MESSAGE ***",
            "[EXTERNAL]: Exercise caution when opening attachments or clicking links.",
            "CAUTION: external mail",
            "You don't often get email from monitor@ops.example. Learn why this is important",
            "Sie erhalten nicht oft E-Mails von monitor@ops.example. Erfahren Sie, warum dies wichtig ist<https://aka.ms/x>",
            "Vous ne recevez pas souvent de courriers de la part de monitor@ops.example. Pourquoi c'est important",
            "Warning: This email is from an unusual correspondent.\nMake sure this is someone you trust.",
            "This sender is not from your organisation. Be careful with links.",
            "⚠ EXTERNAL SENDER – Vorsicht bei Links und Anhängen",
            "ZjQcmQRYFpfptBannerStart\nThis Message Is From an External Sender\nThis message came from outside your organization.\nZjQcmQRYFpfptBannerEnd",
            "ACHTUNG: Diese E-Mail kommt von außerhalb des Unternehmens. Öffnen Sie keine Links oder Anhänge unbekannter Absender.",
            "Externe E-Mail",
            "ATTENTION : Ce message provient de l'extérieur. Ne cliquez pas sur les liens.",
        ] {
            for between in ["\n\n", "\n", "\n----------\n\n"] {
                let text = format!("{banner}{between}Problem name: Disk full\nHost: fs07");
                assert_eq!(strip(&text), "Problem name: Disk full\nHost: fs07", "{text}");
            }
        }
    }

    #[test]
    fn a_line_that_the_sender_drew_stays() {
        let text = "=====\nURL : https://misp.example/7";
        assert_eq!(strip(&format!("EXTERNAL EMAIL\n\n{text}")), text);
        assert_eq!(strip("EXTERNAL EMAIL\n-----\nHost: x"), "Host: x");
    }

    #[test]
    fn an_alert_that_speaks_of_outside_is_no_banner() {
        for text in [
            "Warning: External sensor 5 failed\nHost: plc2",
            "CAUTION: pump 3 tripped. Do not open the valve.\n\nx",
            "External IP 203.0.113.4 scanned the company network.\n\nSeverity: High",
            "Status: Down\nMessage: external link to DC2 is down",
            "Do not open attachments\n\nSeverity: low",
        ] {
            assert_eq!(strip(text), text);
        }
    }

    #[test]
    fn disclaimers_and_footers_of_lists_go() {
        for footer in [
            "________________________________\nThis e-mail is confidential and meant for the addressee only. If it reached you by mistake, delete it. Example Corp, Reg. 123.",
            "_______________________________________________\nalerts mailing list\nalerts@lists.ops.example\nhttps://lists.ops.example/mailman/listinfo/alerts",
            "_______________________________________________\nalerts mailing list -- alerts@lists.ops.example\nTo unsubscribe send an email to alerts-leave@lists.ops.example",
            "This message and any attachments are intended only for the named recipient.\n\nIf you are not the intended recipient, delete it.",
            "Diese E-Mail enthält vertrauliche Informationen.",
            "Der Inhalt dieser E-Mail ist vertraulich.",
            "Email secured by Example MTA",
            "--\nYou received this message because you are subscribed to the Google Groups \"alerts\" group.\nTo unsubscribe from this group, send an email to alerts+unsubscribe@lists.example.",
            "CONFIDENTIALITY NOTICE: for the addressee.",
        ] {
            let text = format!("Host fs07 is down\n\nSent by Grafana v11.2.0\n\n{footer}");
            let kept = strip(&text).trim_end_matches(['-', '\n']);
            assert_eq!(kept, "Host fs07 is down\n\nSent by Grafana v11.2.0", "{text}");
        }
    }

    #[test]
    fn what_an_alert_ends_with_stays() {
        for text in [
            "Rule: x\n\n--END OF NOTIFICATION",
            "a\n----------\nState: DOWN\nInfo: confidential data found in a file",
            "The message queue is full",
            "Subject: x\n\nThis alert was sent by Example",
            "List of hosts\n==========\nfs07",
        ] {
            assert_eq!(strip(text), text);
        }
    }

    #[test]
    fn a_text_that_is_nothing_else_stays() {
        let text = "CAUTION: This message came from outside the company.";
        assert_eq!(strip(text), text);
        assert!(Banners::default().are_all_of(text));
        assert!(!Banners::default().are_all_of("fs07 is down"));
    }

    #[test]
    fn a_site_names_its_own_in_words_and_in_patterns() {
        let banners = site(&["Checked by ACME: do as you like.", "/^ACME Corp, Reg\\. [0-9]+/"]);
        let text =
            "Checked by ACME:\ndo as you  like.\n\nHost fs07 is down\n\n-----\nACME Corp, Reg. 123, Berlin";
        let stripped = banners.stripped(text);
        assert_eq!(stripped.text, "Host fs07 is down");
        assert_eq!(
            stripped.undone,
            [
                "a banner above the text: Checked by ACME: do as you like.",
                "a footer below the text: ACME Corp, Reg. 123, Berlin"
            ]
        );
        let footer = site(&["CHECKED by acme: do as you like."]);
        assert_eq!(footer.stripped("down\nChecked by ACME: do\nas you like.").text, "down");
    }

    #[test]
    fn the_armour_of_a_signature_goes() {
        let text = "above\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nStatus: Closed\n- -- x\n-----BEGIN PGP SIGNATURE-----\n\niQE=\n-----END PGP SIGNATURE-----\nbelow";
        assert_eq!(without_armour(text).unwrap(), "above\nStatus: Closed\n-- x\n\nbelow");
        assert_eq!(without_armour("-----BEGIN PGP SIGNED MESSAGE-----\nHash: x\n\ncut off"), None);
    }
}
