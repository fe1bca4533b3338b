//! Errors in what an operator wrote: what is wrong, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that somebody wrote, with the name to show for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path, or a name such as `rules/thehive4.toml (shipped)`.
    pub path: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
}

impl Source {
    /// A source with this path and text.
    pub fn new(path: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// A diagnostic at the bytes `span` of this source.
    pub fn diagnostic(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let start = floor(&self.text, span.start);
        let end = floor(&self.text, span.end).max(start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        // A span over several lines is underlined on its first.
        let width = self.text[start..end.min(line_start + line.len()).max(start)].chars().count();
        Diagnostic {
            path: Arc::clone(&self.path),
            line: before.matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            width: width.max(1),
            excerpt: line.to_owned(),
            message: message.into(),
            help: None,
        }
    }
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// One error and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The source's path.
    pub path: Arc<str>,
    /// The line, counted from 1; 0 where the error is about the whole file.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// How many characters to underline.
    pub width: usize,
    /// The line itself.
    pub excerpt: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error about a whole file, such as one that cannot be read.
    pub fn about_file(path: impl Into<Arc<str>>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: 0,
            column: 0,
            width: 0,
            excerpt: String::new(),
            message: message.into(),
            help: None,
        }
    }

    /// The same with stars for what it underlines: it may be a secret, and errors are logged.
    #[must_use]
    pub fn masked(mut self) -> Self {
        let hidden = self.column - 1..self.column - 1 + self.width;
        let star = |(at, c)| if hidden.contains(&at) { '*' } else { c };
        self.excerpt = self.excerpt.chars().enumerate().map(star).collect();
        self
    }

    /// The same with a line that says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.path, self.message)?;
        } else {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            // Tabs stay tabs under the line, so that the caret stands where the terminal puts the place.
            let lead: String = self
                .excerpt
                .chars()
                .take(self.column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            writeln!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.message)?;
            writeln!(f, " {number} | {}", self.excerpt)?;
            write!(f, " {gutter} | {lead}{}", "^".repeat(self.width))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// The known name nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A sentence for `help`: the name that was meant, or all that may stand here.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let all: Vec<_> = known.into_iter().map(|name| format!("`{name}`")).collect();
            format!("one of {} can stand here", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_underlines_its_place() {
        let source = Source::new("x.toml", "a = 1\nwhen = { subjct = 'x' }\n");
        let at = source.text.find("subjct").unwrap();
        let shown = source
            .diagnostic(at..at + 6, "unknown field `subjct`")
            .help(suggest("subjct", ["subject", "from"]));
        assert_eq!(
            shown.to_string(),
            "x.toml:2:10: unknown field `subjct`\n 2 | when = { subjct = 'x' }\n   |          ^^^^^^\n  help: did you mean `subject`?"
        );
    }

    #[test]
    fn columns_count_characters_and_spans_past_the_end_are_held() {
        let source = Source::new("x", "ä = ö");
        let shown = source.diagnostic(5..99, "no");
        assert_eq!((shown.line, shown.column, shown.width), (1, 5, 1));
    }
}
