//! Paragraphs that are lines: a program that makes HTML of lines puts each into an element of its own, and an empty one
//! where a line is empty. A blank line between each two would take the lines apart that rules look at together.

use std::ops::Range;

/// The paragraphs so far, by their places in the text.
#[derive(Default)]
pub(super) struct Paragraphs {
    /// Where the text of the open one begins, separators and all.
    open: Option<usize>,
    /// The last one, if it was one line.
    last: Option<Range<usize>>,
    /// Whether something empty stands behind the last one.
    parted: bool,
    /// Where blank lines stand between paragraphs of one line each, with nothing else between.
    gaps: Vec<usize>,
}

impl Paragraphs {
    /// A paragraph begins at the end of `out`.
    pub(super) fn open(&mut self, out: &str) {
        self.close(out);
        self.open = Some(out.len());
    }

    /// The open paragraph ends, if there is one.
    pub(super) fn close(&mut self, out: &str) {
        let Some(from) = self.open.take() else { return };
        let Some(text) = out.get(from..).filter(|text| !text.is_empty()) else {
            self.parted = true;
            return;
        };
        let start = from + text.len() - text.trim_start_matches('\n').len();
        let line = (!out[start..].contains('\n')).then_some(start..out.len());
        if let (Some(last), Some(_), false) = (&self.last, &line, self.parted)
            && last.end == from
            && start == from + 2
        {
            self.gaps.push(from);
        }
        self.last = line;
        self.parted = false;
    }

    /// A line ends, which outside of paragraphs is one that is empty.
    pub(super) fn end_line(&mut self, out: &str) {
        self.parted |= self.open.is_none() && self.last.as_ref().is_some_and(|last| last.end == out.len());
    }

    /// The text with one line end in each gap.
    pub(super) fn joined(self, out: String) -> String {
        if self.gaps.is_empty() {
            return out;
        }
        let mut joined = String::with_capacity(out.len());
        let mut from = 0;
        for gap in self.gaps {
            joined.push_str(&out[from..gap]);
            from = gap + 1;
        }
        joined + &out[from..]
    }
}
