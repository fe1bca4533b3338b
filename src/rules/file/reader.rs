//! The state of reading one rule file, and the errors found in it.

use std::ops::Range;

use jiff::tz::TimeZone;

use crate::diagnostic::{Diagnostic, Source};
use crate::rules::template::{Engine, Tables};

/// Reads one file.
pub(in crate::rules) struct Reader<'s> {
    pub(in crate::rules) source: &'s Source,
    pub(in crate::rules) zone: &'s TimeZone,
    pub(in crate::rules) errors: Vec<Diagnostic>,
    pub(super) tables: Tables,
    pub(super) engine: Engine,
    /// Whether a condition or a `let` could not be read since this was last asked.
    pub(in crate::rules) names_lost: bool,
    /// Whether a pattern of the file was wrong, and another stands in its place.
    pub(super) patched: bool,
}

impl<'s> Reader<'s> {
    pub(in crate::rules) fn new(source: &'s Source, zone: &'s TimeZone) -> Self {
        Self {
            source,
            zone,
            errors: Vec::new(),
            tables: Tables::new(),
            engine: Engine::new(Tables::new()),
            names_lost: false,
            patched: false,
        }
    }
}

impl Reader<'_> {
    pub(in crate::rules) fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.errors.push(self.source.diagnostic(span, message).help(help));
    }
}
