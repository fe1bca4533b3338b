//! Plain text for rules and readers: tidy lines, entities that a template engine left behind, the text
//! without quotations and signature, and characters that hide made visible. Nothing here changes what a
//! line says.

use std::borrow::Cow;
use std::fmt::Write;

/// Longest run of one character that is shown whole. Rulers of a report are shorter.
const RUN_LIMIT: usize = 200;

/// Longest signature in lines; more is not a signature.
const SIGNATURE_LIMIT: usize = 20;

/// The text with LF line ends, without white space at the ends of lines, and with at most one blank line in
/// a row, none at the start or end. A leading byte order mark goes, and a no-break space is a space.
pub(super) fn tidy(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut blank = false;
    for line in lines(text) {
        let line =
            line.trim_end_matches(|c| matches!(c, ' ' | '\t' | '\x0c' | '\x0b') || is_no_break_space(c));
        if line.is_empty() {
            blank = true;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if blank { "\n\n" } else { "\n" });
        }
        blank = false;
        out.push_str(&breakable(line));
    }
    out
}

/// `text` on one line, with one blank for each break between words.
pub fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text with spaces in the place of those that keep words together: a rule that asks for one means either.
pub(super) fn breakable(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(is_no_break_space) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_no_break_space(c) { ' ' } else { c }).collect())
}

fn is_no_break_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{2007}' | '\u{202f}')
}

/// The lines of `text`, which end in CRLF, LF or a bare CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// Longest entity in bytes, `;` included: `&CounterClockwiseContourIntegral;`.
const ENTITY_LIMIT: usize = 34;

/// Decodes entities, each once: the named and the numeric ones that stand for a character that can be seen.
///
/// TheHive 4 sends its text/plain through Handlebars' HTML escaping: `a="b" & c` arrives as
/// `a&#x3D;&quot;b&quot; &amp; c`. They are decoded in every plain text, not only in mails that look like
/// TheHive's: the escaped values are the ones that rules match on, such mails cannot be told apart (a title
/// with nothing but an ampersand in it shows only `&amp;`), and other templating alert tools do the same, each with
/// its own set. An entity that stands for a control or an invisible character stays, and so does what lacks its
/// semicolon; a text that really speaks about `&lt;` loses nothing that a reader on a phone would miss, and the raw
/// mail is kept.
pub(super) fn decode_entities(text: &str) -> Cow<'_, str> {
    let Some(mut at) = text.find('&') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((c, length)) = entity(rest) {
            out.push(c);
            rest = &rest[length..];
        } else {
            out.push('&');
            rest = &rest[1..];
        }
        match rest.find('&') {
            Some(next) => at = next,
            None => break,
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character that the entity at the start of `text` stands for, and its length.
fn entity(text: &str) -> Option<(char, usize)> {
    let head = &text.as_bytes()[1..text.len().min(ENTITY_LIMIT)];
    let end = head.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'#')?;
    if head[end] != b';' {
        return None;
    }
    let length = end + 2;
    let name = &text[1..=end];
    let c = match name.strip_prefix('#') {
        Some(number) => {
            let hexadecimal = number.strip_prefix(['x', 'X']).map(|digits| u32::from_str_radix(digits, 16));
            char::from_u32(hexadecimal.unwrap_or_else(|| number.parse()).ok()?)?
        }
        None => {
            let decoded = html_escape::decode_html_entities(&text[..length]);
            let mut chars = decoded.chars();
            let first =
                chars.next().filter(|_| !decoded.starts_with('&') || name == "amp" || name == "AMP")?;
            if chars.next().is_some() {
                return None;
            }
            first
        }
    };
    let seen = !c.is_control() && !is_hidden(c) && (!c.is_whitespace() || is_no_break_space(c));
    seen.then_some((if is_no_break_space(c) { ' ' } else { c }, length))
}

/// The text without quoted mail and signature: what its writer added. Conservative: when nothing else would
/// remain, or it is not plain that something is quoted, the text stays.
pub(super) fn own(text: &str) -> Cow<'_, str> {
    let lines: Vec<&str> = text.split('\n').collect();
    let end = own_end(&lines);
    let mut kept: Vec<&str> = Vec::with_capacity(end);
    for line in &lines[..end] {
        if line.starts_with('>') {
            drop_attribution(&mut kept);
        } else {
            kept.push(line);
        }
    }
    while kept.last().is_some_and(|line| line.is_empty()) {
        kept.pop();
    }
    if kept.len() == lines.len() || kept.iter().all(|line| line.trim().is_empty()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(tidy(&kept.join("\n")))
}

/// The number of lines before a signature or an older mail below.
fn own_end(lines: &[&str]) -> usize {
    let mut end = lines.len();
    // RFC 3676 section 4.3: `-- `, whose space did not survive the tidying.
    if let Some(at) = lines.iter().rposition(|line| *line == "--")
        && lines.len() - at <= SIGNATURE_LIMIT
    {
        end = at;
    }
    let older = (0..end).find(|&at| begins_older_mail(&lines[at..end]));
    match older {
        // Below nothing it is a forwarded mail, and that is then what the mail says.
        Some(at) if lines[..at].iter().any(|line| !line.is_empty()) => at,
        _ => end,
    }
}

/// Whether these lines begin with what mail programs put above the mail that they answer or forward.
pub(super) fn begins_older_mail(lines: &[&str]) -> bool {
    const MARKS: [&str; 6] = [
        "original message",
        "original appointment",
        "forwarded message",
        "ursprüngliche nachricht",
        "weitergeleitete nachricht",
        "message d'origine",
    ];
    let first = lines[0].trim();
    if first == "Begin forwarded message:" {
        return true;
    }
    if first.starts_with("-----") && first.ends_with("---") {
        let inner = first.trim_matches('-').trim().to_lowercase();
        return MARKS.contains(&inner.as_str());
    }
    // Outlook writes the header of the older mail without any mark.
    let starts = |line: &&str, names: [&str; 2]| names.iter().any(|name| line.starts_with(name));
    starts(&first, ["From: ", "Von: "])
        && lines.get(1).is_some_and(|line| starts(line, ["Sent: ", "Gesendet: "]))
        && lines.iter().skip(2).take(4).any(|line| starts(line, ["Subject: ", "Betreff: "]))
}

/// Removes the line above a quotation that says who wrote it, `On ... wrote:`, folded or not.
fn drop_attribution(kept: &mut Vec<&str>) {
    let Some(at) = kept.iter().rposition(|line| !line.is_empty()) else { return };
    if is_attribution(kept[at]) {
        kept.truncate(at);
    } else if at > 0 && is_attribution(&format!("{} {}", kept[at - 1], kept[at])) {
        kept.truncate(at - 1);
    }
}

pub(super) fn is_attribution(line: &str) -> bool {
    ["On ", "Am ", "Le "].iter().any(|begin| line.starts_with(begin))
        && [" wrote", " schrieb", " écrit"].iter().any(|word| line.contains(word))
        && line.ends_with(':')
}

/// Shows the characters that hide: controls other than LF and TAB, overrides of the writing direction, and
/// invisible format characters, each as `⟨U+202E⟩`; runs of more than 200 of one character are cut and say
/// how many there were.
///
/// An attacker who can write into a log can otherwise make an alert read backwards, hide half of it, or
/// fill a phone with one letter. Joiners between letters outside ASCII stay: Persian and emoji need them; so do marks
/// of the direction and isolates in a line with letters that are written from the right, which they only keep in
/// order. Applied to what goes into events, by the rules; a [`Message`](super::Message) keeps the text as sent, so
/// that rules can match on it.
pub fn visible(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.char_indices().peekable();
    let mut last = '\0';
    let mut run = 0;
    let mut line = Line::default();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        if c == last {
            run += 1;
        } else {
            run = 1;
        }
        if run <= RUN_LIMIT {
            let joins = matches!(c, '\u{200c}' | '\u{200d}')
                && !last.is_ascii()
                && next.is_some_and(|next| !next.is_ascii());
            if is_hidden(c) && !joins && !(is_direction(c) && line.is_from_the_right(text, at)) {
                write!(out, "⟨U+{:04X}⟩", u32::from(c)).expect("writing to a String cannot fail");
            } else {
                out.push(c);
            }
        } else if next != Some(c) {
            write!(out, "⟨… {run} times⟩").expect("writing to a String cannot fail");
        }
        last = c;
    }
    Cow::Owned(out)
}

/// Marks of the direction and isolates: they put nothing in another order that letters do not ask for themselves.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2066}'..='\u{2069}')
}

/// The line that was looked at last, so that each is looked at once.
#[derive(Default)]
struct Line {
    end: usize,
    from_the_right: bool,
}

impl Line {
    /// Whether the line around `at` has letters that are written from the right.
    fn is_from_the_right(&mut self, text: &str, at: usize) -> bool {
        if at >= self.end {
            let start = text[self.end..at].rfind('\n').map_or(self.end, |found| self.end + found + 1);
            self.end = text[at..].find('\n').map_or(text.len(), |length| at + length);
            let letter = |c| {
                matches!(c, '\u{590}'..='\u{5ff}' | '\u{620}'..='\u{65f}' | '\u{66e}'..='\u{8ff}'
                    | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
            };
            self.from_the_right = text[start..self.end].contains(letter);
        }
        self.from_the_right
    }
}

/// Whether nothing in `text` needs to be made visible; the usual case, without an allocation.
fn is_plain(text: &str) -> bool {
    let mut last = '\0';
    let mut run = 0;
    let mut plain = |c: char| {
        run = if c == last { run + 1 } else { 1 };
        last = c;
        run <= RUN_LIMIT && !is_hidden(c)
    };
    // ASCII needs no decoding.
    if text.is_ascii() { text.bytes().all(|byte| plain(byte.into())) } else { text.chars().all(plain) }
}

/// Characters without a shape of their own: Unicode's Cc but for LF and TAB, its Cf, the separators of
/// lines and paragraphs, the fillers that look like nothing, and tags.
pub fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        ' '..='~' => false,
        '\0'..='\u{9f}' => true,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}' => {
            true
        }
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tidying_keeps_the_structure() {
        assert_eq!(tidy("\r\n\r\na  \r\n\r\n\r\n\r\n  b\t\n----\rc\n\n"), "a\n\n  b\n----\nc");
        assert_eq!(tidy("\u{feff}x"), "x");
        assert_eq!(tidy(" \n "), "");
    }

    #[test]
    fn entities_that_can_be_seen_are_decoded_once() {
        assert_eq!(decode_entities("a&#x3D;&quot;b&quot; &amp; c"), "a=\"b\" & c");
        assert_eq!(decode_entities("&amp;lt; &lt;&gt;&#x27;&#x60;&amp;#39;"), "&lt; <>'`&#39;");
        assert_eq!(
            decode_entities("Can&#39;t reach: &#34;x&#34; &#43;3 K&uuml;hlung&nbsp;5"),
            "Can't reach: \"x\" +3 Kühlung 5"
        );
    }

    #[test]
    fn what_is_no_entity_or_hides_stays() {
        for text in [
            "&#0; &#10; &#x1b; &#8238; &#x200b; &shy; &zwj; &Tab;",
            "/?a=1&copy=1&lt=2 &copy &#; &#x; &#99999999; &; & &nobody; &fjlig;",
            "&#55296;",
        ] {
            assert_eq!(decode_entities(text), text);
        }
    }

    #[test]
    fn a_no_break_space_is_a_space() {
        assert_eq!(
            tidy("Status:\u{a0}Closed\u{a0}\nDurée\u{202f}: 5\u{2007}s"),
            "Status: Closed\nDurée : 5 s"
        );
    }

    #[test]
    fn marks_of_the_direction_are_silent_beside_letters_written_from_the_right() {
        let hebrew = "\u{200f}תקלה בשרת: db7 \u{200e}(CPU) \u{2068}x\u{2069}";
        assert_eq!(visible(hebrew), hebrew);
        assert_eq!(visible("safe\u{200e}exe.doc\nתקלה"), "safe⟨U+200E⟩exe.doc\nתקלה");
        assert_eq!(visible("תקלה \u{202e}x\u{202c}\u{202d}"), "תקלה ⟨U+202E⟩x⟨U+202C⟩⟨U+202D⟩");
        assert_eq!(
            visible("a\u{200f}\n\u{200f}תקלה\u{200f}\n\u{200f}b"),
            "a⟨U+200F⟩\n\u{200f}תקלה\u{200f}\n⟨U+200F⟩b"
        );
    }

    #[test]
    fn quotations_and_their_attribution_are_not_own_text() {
        assert_eq!(
            own("Fixed.\n\nOn Fri, 20 Nov 2026 a@x.example wrote:\n> down\n> > twice\n\nBye"),
            "Fixed.\n\nBye"
        );
        assert_eq!(
            own("Ok\n\nOn Fri, 20 Nov 2026 at 18:04, Some Body\n<a@x.example> wrote:\n\n> down"),
            "Ok"
        );
        assert_eq!(own("Ok\nAm 20.11.26 um 18:04 schrieb A:\n> down"), "Ok");
    }

    #[test]
    fn older_mails_below_and_signatures_are_not_own_text() {
        assert_eq!(own("Ack.\n\n-----Original Message-----\nFrom: a\nall of it"), "Ack.");
        assert_eq!(own("Ack.\n\nFrom: A\nSent: Friday\nTo: b\nSubject: c\n\nall of it"), "Ack.");
        assert_eq!(own("FYI\n\n---------- Forwarded message ---------\nFrom: a"), "FYI");
        assert_eq!(own("Ack.\n--\nSome Body\nSOC"), "Ack.");
    }

    #[test]
    fn a_mail_that_is_all_quotation_keeps_its_text() {
        for text in ["> a\n> b", "-----Original Message-----\nFrom: a\nx", "--\nname", "", "a\n---\nb"] {
            assert_eq!(own(text), text);
            assert!(matches!(own(text), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn key_lines_of_an_alert_are_not_taken_for_an_older_mail() {
        let alert = "Alert\n\nFrom: 192.0.2.1\nTo: 192.0.2.2\nSubject: x";
        assert_eq!(own(alert), alert);
    }

    #[test]
    fn hidden_characters_become_visible() {
        assert_eq!(
            visible("a\u{202e}b\0\u{1b}[2J\u{200b}c\n\td"),
            "a⟨U+202E⟩b⟨U+0000⟩⟨U+001B⟩[2J⟨U+200B⟩c\n\td"
        );
        assert_eq!(visible("a\r\nb"), "a⟨U+000D⟩\nb");
    }

    #[test]
    fn ordinary_text_is_not_touched() {
        for text in ["Übertragung – „abgebrochen“", "👩\u{200d}🚒 ok", "می\u{200c}خواهم", &"=".repeat(200)]
        {
            assert_eq!(visible(text), text);
        }
        assert!(matches!(visible("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn runs_of_one_character_are_cut() {
        assert_eq!(
            visible(&format!("{}b", "a".repeat(5_000))),
            format!("{}⟨… 5000 times⟩b", "a".repeat(200))
        );
    }
}
