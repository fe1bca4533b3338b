//! The trace: what the rules did with a mail and why, for people (`explain`), for the spool and for tests.

use std::sync::Arc;

use serde::Serialize;

/// What the rules did with one mail.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub struct Trace {
    /// One for each piece of a mail that holds several alerts; else one.
    pub pieces: Vec<Piece>,
}

/// What the rules did with one piece of a mail.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub struct Piece {
    /// The files considered, in order; when judged without a full trace, those that speak about the mail.
    pub sources: Vec<SourceTrace>,
    /// Which rule set each field last, or which fallback.
    pub origins: Vec<Origin>,
    /// What was done where the rules said nothing, or nothing usable.
    pub notes: Vec<String>,
    /// The rule that dropped the piece, and its reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
}

/// A rule that dropped a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dropped {
    /// `SOURCE: RULE`.
    pub rule: String,
    /// Why, in the words of the rule.
    pub reason: String,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceTrace {
    /// The file's path.
    pub file: Arc<str>,
    /// The name in `[source]`.
    pub source: Arc<str>,
    /// Whether it speaks about the mail.
    pub held: bool,
    /// The tests of its `when`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Tested>,
    /// Its rules in order; when judged without a full trace, those that held.
    pub rules: Vec<RuleTrace>,
}

/// What became of one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuleTrace {
    /// Its name.
    pub rule: Arc<str>,
    /// Whether its conditions held; a rule below a `stop` is not tested.
    pub outcome: Outcome,
    /// The tests of its `when`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Tested>,
    /// What it set, from what to what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What it could not do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether it ended the file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All its conditions held.
    Held,
    /// They did not.
    Failed,
    /// A rule above ended the file.
    NotReached,
}

/// A test and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tested {
    /// The field, such as `subject` or `header.x-spam`.
    pub field: String,
    /// The test in words, such as `subject matches '^Down'`.
    pub test: String,
    /// Whether it held. Within a `not` this is the inner test's own result.
    pub held: bool,
    /// `any`, `all` and `not` around it, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<&'static str>,
    /// The text that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<Matched>,
    /// What its groups captured: name and text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<(String, String)>,
}

/// The part of a field that a pattern matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Matched {
    /// The text.
    pub text: String,
    /// Its first byte within the value.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
}

/// A field that a rule changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// The field, such as `title` or `tile.TLP`.
    pub field: String,
    /// What it was.
    pub from: Option<String>,
    /// What it is from here on.
    pub to: String,
}

/// Where the final value of a field comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Origin {
    /// The field.
    pub field: String,
    /// `SOURCE: RULE`, or the fallback in words.
    pub by: String,
}

impl Trace {
    /// The trace in a few words, to be kept with the mail: rules that held, fallbacks, drops.
    pub fn story(&self) -> serde_json::Value {
        let pieces: Vec<_> = self.pieces.iter().map(Piece::story).collect();
        match <[_; 1]>::try_from(pieces) {
            Ok([only]) => only,
            Err(several) => serde_json::json!({ "pieces": several }),
        }
    }
}

impl Piece {
    fn story(&self) -> serde_json::Value {
        let rules: Vec<String> = self
            .sources
            .iter()
            .flat_map(|source| source.rules.iter().map(move |rule| (source, rule)))
            .filter(|(_, rule)| rule.outcome == Outcome::Held)
            .map(|(source, rule)| format!("{}: {}", source.source, rule.rule))
            .collect();
        let mut story = serde_json::json!({ "rules": rules });
        let notes: Vec<&String> = self
            .sources
            .iter()
            .flat_map(|source| source.rules.iter().flat_map(|rule| &rule.notes))
            .chain(&self.notes)
            .collect();
        if !notes.is_empty() {
            story["notes"] = serde_json::json!(notes);
        }
        if let Some(dropped) = &self.dropped {
            story["dropped"] = serde_json::json!(dropped);
        }
        story
    }
}
