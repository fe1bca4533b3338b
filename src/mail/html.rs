//! HTML to text for rules: one line for what a reader sees as one line, cells and items kept apart, no
//! layout. Streaming: no tree, no recursion, and time that grows with the input alone, so that nesting,
//! attributes and open comments cannot be turned against the gateway. That is also why no HTML library is
//! used: rendering a tree of 100,000 nested elements took 45 seconds (html2text 0.17), and a tokenizer that
//! follows the standard to the letter compares every attribute of a tag with every other, which took 10
//! seconds for a tag of 1 MiB (html5ever 0.40).
//!
//! What it leaves out: style sheets (hidden text stays), wrapping, and pictures but for their alt text.

mod layout;
mod markup;
mod paragraphs;

use std::borrow::Cow;

use super::links;
use layout::{Layout, layout};
use markup::{Markup, OpenEnded, Tag};
use paragraphs::Paragraphs;

/// Between the cells of a row. Two spaces are visible wherever the text is shown and cannot come out of a
/// cell, whose own white space is collapsed.
const CELL: &str = "  ";

/// Deepest quotation that is marked; deeper ones look the same.
const QUOTE_LIMIT: usize = 4;

/// Longest link target in bytes; longer ones are tracking and pictures, nothing to read on a phone.
const HREF_LIMIT: usize = 2_000;

/// Renders HTML, also what only claims to be HTML.
///
/// Rows, items, paragraphs and breaks end a line. Cells of a row stand on one line, two spaces apart; after
/// a cell that ends in a colon it is one space, so that a two-column table reads `Key: value` like the text
/// version of the same mail. Links are followed by ` <target>` unless they show it already. Quotations get
/// `> ` as in plain text.
///
/// Text without any markup keeps its lines: its sender named the type wrongly. Says as well whether links that were
/// rewritten on the way are shown as they were written.
pub(super) fn render(html: &str) -> (String, bool) {
    let mut page = Page {
        out: String::with_capacity(html.len() / 2),
        pre: usize::from(!html.contains('<')),
        ..Page::default()
    };
    let mut open_ended = OpenEnded::default();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        page.text(&rest[..at]);
        rest = &rest[at..];
        let (markup, length) = markup::read(rest, &mut open_ended);
        let (this, after) = rest.split_at(length);
        rest = after;
        match markup {
            Markup::Text => page.text(this),
            Markup::Nothing => {}
            Markup::Open(tag) => {
                page.open(&tag);
                if let Some(length) = open_ended.raw_text(tag.name, rest) {
                    rest = &rest[length..];
                }
            }
            Markup::Close(name) => page.close(name),
        }
    }
    page.text(rest);
    page.close("a");
    page.paragraphs.close(&page.out);
    (page.paragraphs.joined(page.out), page.restored)
}

/// The text so far, and the separators that the next text will need.
#[derive(Default)]
struct Page<'a> {
    out: String,
    /// Line ends due: 0, 1, or 2 for a blank line.
    breaks: usize,
    /// A space is due.
    space: bool,
    /// Cells begun since the last text of this row.
    cells: usize,
    /// Blanks that the line begins with, which the next word begins.
    indent: usize,
    /// The row has a no-break space.
    row_spaced: bool,
    /// The row has text.
    row_filled: bool,
    /// The row went over more than one line, so that its next cell begins a new one.
    row_broken: bool,
    quote: usize,
    pre: usize,
    /// The target of the open link and where its text begins.
    link: Option<(&'a str, usize)>,
    /// Where the text of an open paragraph of Word's begins.
    word_line: Option<usize>,
    /// The other paragraphs.
    paragraphs: Paragraphs,
    /// Whether a rewritten link is shown as it was before.
    restored: bool,
}

impl<'a> Page<'a> {
    fn open(&mut self, tag: &Tag<'a>) {
        match layout(tag.name) {
            Layout::Inline => {}
            Layout::Break => {
                self.paragraphs.end_line(&self.out);
                self.end_line(self.breaks + 1);
            }
            Layout::Block => self.end_line(1),
            Layout::Paragraph if tag.of_word => {
                self.end_line(1);
                self.word_line = Some(self.out.len());
            }
            Layout::Paragraph => {
                self.word_line = None;
                self.paragraphs.close(&self.out);
                if tag.name.eq_ignore_ascii_case("p") {
                    self.paragraphs.open(&self.out);
                }
                self.end_line(2);
            }
            Layout::Rule => {
                self.end_line(1);
                self.word("----");
                self.end_line(1);
            }
            Layout::Table => self.end_line(1),
            Layout::Row => {
                self.cells = 0;
                self.end_line(1);
                self.row_filled = false;
                self.row_spaced = false;
                self.row_broken = false;
            }
            Layout::Cell => {
                self.space = false;
                if self.row_filled && !self.row_broken {
                    // Blocks inside the cell before ended its line; the row goes on.
                    self.breaks = 0;
                    self.cells += 1;
                } else {
                    self.end_line(1);
                }
            }
            Layout::Quote => {
                self.end_line(1);
                self.quote += 1;
            }
            Layout::Pre => {
                self.end_line(2);
                self.pre += 1;
            }
            Layout::Link => {
                self.close("a");
                self.link = tag.href.map(|href| (href, self.out.len()));
            }
            Layout::Image => {
                if let Some(alt) = tag.alt {
                    self.text(alt);
                }
            }
        }
    }

    fn close(&mut self, name: &str) {
        match layout(name) {
            Layout::Block => self.end_line(1),
            // Word's paragraphs have no space between them; an empty one is an empty line.
            Layout::Paragraph => {
                self.paragraphs.close(&self.out);
                match self.word_line.take() {
                    Some(from) if from < self.out.len() => self.end_line(1),
                    _ => self.end_line(2),
                }
            }
            Layout::Row => {
                self.cells = 0;
                // A blank line after the last paragraph of a row would tear the table apart; a row with nothing but a space
                // is one.
                self.breaks = if self.row_spaced && !self.row_filled { 2 } else { 1 };
            }
            Layout::Table => {
                self.cells = 0;
                self.end_line(2);
                // Only the rows of a table around this one can go on, on a line of their own.
                self.row_broken = true;
            }
            Layout::Quote => {
                self.end_line(1);
                self.quote = self.quote.saturating_sub(1);
            }
            Layout::Pre => {
                self.end_line(2);
                self.pre = self.pre.saturating_sub(1);
            }
            Layout::Link => self.end_link(),
            Layout::Inline | Layout::Break | Layout::Rule | Layout::Cell | Layout::Image => {}
        }
    }

    /// Ends the line, with a blank one below if `breaks` is 2. The first block of a cell begins no line.
    fn end_line(&mut self, breaks: usize) {
        if self.cells == 0 {
            self.breaks = self.breaks.max(breaks.min(2));
        }
    }

    /// Writes the target behind the text of a link, on the same line whatever is due.
    fn end_link(&mut self) {
        let Some((href, from)) = self.link.take() else { return };
        let href = html_escape::decode_html_entities(href.trim());
        let far = href.contains("://") || href.starts_with("mailto:") || href.starts_with("tel:");
        if !far || href.len() > HREF_LIMIT || href.starts_with("data:") || href.starts_with("javascript:") {
            return;
        }
        let href = match links::written(&href) {
            Some(written) => {
                self.restored = true;
                Cow::Owned(written)
            }
            None => href,
        };
        let shown = self.out.get(from..).unwrap_or_default().trim();
        let same = |text: &str| text.trim_end_matches('/') == href.trim_end_matches('/');
        if same(shown)
            || href.strip_prefix("mailto:") == Some(shown)
            || href.strip_prefix("tel:") == Some(shown)
        {
            return;
        }
        let target: String = href.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
        if shown.is_empty() {
            self.word(&format!("<{target}>"));
        } else {
            self.out.push_str(" <");
            self.out.push_str(&target);
            self.out.push('>');
        }
    }

    /// Writes a run of text: entities decoded, white space collapsed unless it is preformatted.
    fn text(&mut self, run: &str) {
        if run.is_empty() {
            return;
        }
        let run = if run.contains('&') { html_escape::decode_html_entities(run) } else { Cow::Borrowed(run) };
        if self.pre > 0 {
            for (at, line) in run.split('\n').enumerate() {
                if at > 0 {
                    self.breaks = (self.breaks + 1).min(2);
                }
                let line = line.trim_end_matches('\r');
                if !line.trim().is_empty() {
                    self.word(line);
                }
            }
            return;
        }
        let mut rest = &*run;
        while let Some(from) = rest.find(|c| !is_blank(c)) {
            self.space |= from > 0;
            self.indent = self.indent(&rest[..from]);
            let to = rest[from..].find(is_blank).map_or(rest.len(), |length| from + length);
            self.word(&rest[from..to]);
            rest = &rest[to..];
        }
        self.space |= !rest.is_empty();
        self.row_spaced |= rest.contains('\u{a0}');
    }

    /// How far the no-break spaces in `blank`, before a word, indent a line that begins with them. Spaces beside them are
    /// those that a program put there so that lines can be broken. Within a line they are one space, as else free text could
    /// look like a row of cells.
    fn indent(&self, blank: &str) -> usize {
        let begins = (self.out.is_empty() || self.breaks > 0) && self.cells == 0;
        match blank.find('\u{a0}') {
            Some(from) if begins => blank[from..].chars().filter(|c| matches!(c, ' ' | '\u{a0}')).count(),
            _ => 0,
        }
    }

    /// Writes the separators that are due, then the word.
    fn word(&mut self, word: &str) {
        let word = without_filler(word);
        let indent = std::mem::take(&mut self.indent);
        if word.is_empty() {
            return;
        }
        if self.out.is_empty() {
            self.mark_quote();
        } else if self.breaks > 0 {
            self.row_broken |= self.row_filled;
            for _ in 0..self.breaks {
                self.out.push('\n');
            }
            self.mark_quote();
        } else if self.cells > 0 {
            if self.out.ends_with(':') {
                self.out.push(' ');
                self.cells -= 1;
            }
            for _ in 0..self.cells {
                self.out.push_str(CELL);
            }
        } else if self.space {
            self.out.push(' ');
        }
        self.breaks = 0;
        self.cells = 0;
        self.space = false;
        self.row_filled = true;
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.out.push_str(&word);
    }

    fn mark_quote(&mut self) {
        for _ in 0..self.quote.min(QUOTE_LIMIT) {
            self.out.push_str("> ");
        }
    }
}

/// White space of HTML and the no-break space, which pages use to fill cells and to indent.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c' | '\u{a0}')
}

/// The word without the invisible characters that newsletters pad their preview line with. A joiner after
/// a letter outside ASCII stays: Persian and emoji need it.
fn without_filler(word: &str) -> Cow<'_, str> {
    let filler =
        |c: char| matches!(c, '\u{200b}'..='\u{200d}' | '\u{feff}' | '\u{ad}' | '\u{34f}' | '\u{2060}');
    if word.is_ascii() || !word.contains(filler) {
        return Cow::Borrowed(word);
    }
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        let joins =
            matches!(c, '\u{200c}' | '\u{200d}') && out.chars().next_back().is_some_and(|l| !l.is_ascii());
        if !filler(c) || joins {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
