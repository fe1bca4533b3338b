//! One example that `rules test` runs.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::gateway::example_mail;
use crate::rules::{Deviation, Example, RuleSet};

/// An example that was run.
pub(super) struct Case {
    /// The rule file.
    pub(super) file: String,
    /// Its name, with the line.
    pub(super) name: String,
    /// What came of it.
    pub(super) verdict: Verdict,
    /// Whether it is the site's.
    pub(super) own: bool,
    /// How long judging took.
    pub(super) took: Duration,
}

/// What came of an example.
pub(super) enum Verdict {
    Passed,
    /// Its mail is not on this machine.
    Skipped,
    Failed(Vec<Deviation>),
    /// Its mail cannot be read.
    Unreadable(String),
}

impl Case {
    pub(super) fn run(rules: &RuleSet, example: &Example) -> Self {
        let start = Instant::now();
        let verdict = match example_mail(example) {
            Ok(mail) => match rules.deviations(example, &mail) {
                found if found.is_empty() => Verdict::Passed,
                found => Verdict::Failed(found),
            },
            Err(error) if example.is_shipped() && error.kind() == ErrorKind::NotFound => Verdict::Skipped,
            Err(error) => Verdict::Unreadable(error.to_string()),
        };
        let file = example.source().path.to_string();
        Self { file, name: example.name(), verdict, own: !example.is_shipped(), took: start.elapsed() }
    }

    /// Its name, and whether it is a shipped one.
    pub(super) fn label(&self) -> String {
        if self.own { self.name.clone() } else { format!("{} (shipped)", self.name) }
    }

    pub(super) fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_) | Verdict::Unreadable(_))
    }
}
