//! Regular expressions: checked with the place of what is wrong, bounded in size, and known by the
//! literals that any match must contain, so that a mail is tested against thousands of them in one pass.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

/// Largest compiled size of one pattern in bytes. It bounds memory and the cost per byte of text; the
/// largest shipped pattern needs a tenth.
const SIZE_LIMIT: usize = 1 << 20;

/// Literals shorter than this are in nearly every mail and tell nothing.
const SHORTEST_LITERAL: usize = 3;

/// How many alternatives a required literal may have before the test costs more than it saves.
const MOST_ALTERNATIVES: usize = 64;

/// Bytes of literals up to which a filter is a DFA: one step a byte of text, for some hundred bytes of memory a
/// byte of literal. Hundreds of rules stay below; what is larger takes the form that the library chooses.
const DFA_LIMIT: usize = 16 << 10;

/// A pattern that was checked.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) regex: Regex,
    /// Groups that have a name.
    pub(super) captures: Vec<Capture>,
    /// What the text must contain for a match to be possible: one of each group, in lower case.
    pub(super) required: Vec<Vec<Vec<u8>>>,
    /// Where the literals of `required` are in the filter of the field; empty: always try.
    pub(super) gate: Vec<Vec<u32>>,
}

/// A named group.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    pub(super) group: usize,
    pub(super) name: String,
    /// Whether a match can be without it.
    pub(super) optional: bool,
    /// The place of the name among the names of its file.
    pub(super) slot: usize,
}

/// What is wrong with a pattern and at which of its bytes.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl Fault {
    fn at(span: &regex_syntax::ast::Span, message: String) -> Self {
        Self { at: span.start.offset..span.end.offset, help: help_for(&message), message }
    }

    fn whole(text: &str, message: String) -> Self {
        Self { at: 0..text.len(), help: help_for(&message), message }
    }
}

fn help_for(message: &str) -> &'static str {
    if message.contains("not supported") {
        "patterns are matched in linear time, which look-around and backreferences do not allow"
    } else if message.starts_with("unclosed") || message.starts_with("unopened") {
        "for the character itself write a backslash before it"
    } else {
        "the syntax is that of Rust's regex crate: https://docs.rs/regex/#syntax"
    }
}

impl Pattern {
    /// Checks and compiles `text`. `^` and `$` match at every line's ends.
    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        let parser = regex_syntax::ParserBuilder::new().multi_line(true).build().parse(text);
        let hir = parser.map_err(|error| match error {
            regex_syntax::Error::Parse(e) => Fault::at(e.span(), e.kind().to_string()),
            regex_syntax::Error::Translate(e) => Fault::at(e.span(), e.kind().to_string()),
            other => Fault::whole(text, other.to_string()),
        })?;
        let regex = RegexBuilder::new(text).multi_line(true).size_limit(SIZE_LIMIT).build();
        let regex = regex.map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => Fault {
                at: 0..text.len(),
                message: format!("the pattern is over the size limit of {limit} bytes when compiled"),
                help: "lower its counted repetitions, or write [0-9] and [A-Za-z_] for \\d and \\w",
            },
            other => Fault::whole(text, other.to_string()),
        })?;
        Ok(Self::of(regex, &hir))
    }

    fn of(regex: Regex, hir: &Hir) -> Self {
        let mut captures = Vec::new();
        named_groups(hir, false, &mut captures);
        let mut required = Vec::new();
        required_literals(hir, &mut required);
        // The longest tell most; more than a few only cost.
        required.sort_by_key(|group| std::cmp::Reverse(shortest(group)));
        required.truncate(3);
        Self { regex, captures, required, gate: Vec::new() }
    }

    /// A pattern for a whole word in any case. A word may hold blanks and signs.
    pub(super) fn word(words: &[String]) -> Result<Self, Fault> {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let alternatives: Vec<_> = words
            .iter()
            .map(|word| {
                let (before, after) = (edge(word.chars().next()), edge(word.chars().next_back()));
                let escaped = regex::escape(word);
                // Folding ASCII alone keeps the literals findable; other scripts need the full fold.
                let fold = if word.is_ascii() { "(?i-u:" } else { "(?i:" };
                let start = if before { r"\b{start-half}" } else { "" };
                let end = if after { r"\b{end-half}" } else { "" };
                format!("{start}{fold}{escaped}){end}")
            })
            .collect();
        Self::new(&alternatives.join("|"))
    }
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        let hir = regex_syntax::parse(regex.as_str()).expect("what compiles can be parsed");
        Self::of(regex, &hir)
    }
}

fn named_groups(hir: &Hir, optional: bool, out: &mut Vec<Capture>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            if let Some(name) = &capture.name {
                let group = capture.index as usize;
                out.push(Capture { group, name: name.to_string(), optional, slot: usize::MAX });
            }
            named_groups(&capture.sub, optional, out);
        }
        HirKind::Repetition(repetition) => {
            named_groups(&repetition.sub, optional || repetition.min == 0, out);
        }
        HirKind::Concat(subs) => subs.iter().for_each(|sub| named_groups(sub, optional, out)),
        HirKind::Alternation(subs) => subs.iter().for_each(|sub| named_groups(sub, true, out)),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => (),
    }
}

/// Finds the literals without which `hir` cannot match: one of every group found.
fn required_literals(hir: &Hir, out: &mut Vec<Vec<Vec<u8>>>) {
    match hir.kind() {
        HirKind::Capture(capture) => required_literals(&capture.sub, out),
        HirKind::Repetition(repetition) if repetition.min > 0 => required_literals(&repetition.sub, out),
        HirKind::Alternation(subs) => {
            let mut union = Vec::new();
            for sub in subs {
                let mut groups = Vec::new();
                required_literals(sub, &mut groups);
                let Some(best) = groups.into_iter().max_by_key(|group| shortest(group)) else {
                    return;
                };
                union.extend(best);
            }
            if union.len() <= MOST_ALTERNATIVES {
                out.push(union);
            }
        }
        HirKind::Concat(subs) => {
            let mut run = Vec::new();
            for sub in subs {
                match sub.kind() {
                    HirKind::Look(_) | HirKind::Empty => (),
                    HirKind::Literal(literal) => run.extend(literal.0.to_ascii_lowercase()),
                    HirKind::Class(class) if folds_to(class).is_some() => run.extend(folds_to(class)),
                    _ => {
                        flush(&mut run, out);
                        required_literals(sub, out);
                    }
                }
            }
            flush(&mut run, out);
        }
        HirKind::Literal(literal) => flush(&mut literal.0.to_ascii_lowercase(), out),
        HirKind::Repetition(_) | HirKind::Class(_) | HirKind::Look(_) | HirKind::Empty => (),
    }
}

fn flush(run: &mut Vec<u8>, out: &mut Vec<Vec<Vec<u8>>>) {
    let literal = std::mem::take(run);
    if literal.len() >= SHORTEST_LITERAL {
        out.push(vec![literal]);
    }
}

fn shortest(group: &[Vec<u8>]) -> usize {
    group.iter().map(Vec::len).min().unwrap_or(0)
}

/// The lower-case ASCII letter that every member of the class is a case of.
fn folds_to(class: &Class) -> Option<u8> {
    let mut folded = None;
    let mut same = |byte: u8| {
        let byte = byte.to_ascii_lowercase();
        *folded.get_or_insert(byte) == byte
    };
    let holds = match class {
        Class::Unicode(class) => class.ranges().iter().all(|range| {
            range.start() == range.end() && u8::try_from(range.start()).is_ok_and(|b| b.is_ascii() && same(b))
        }),
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .all(|range| range.start() == range.end() && range.start().is_ascii() && same(range.start())),
    };
    if holds { folded } else { None }
}

/// Finds which of many literals a text contains, in one pass over it.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    literals: Vec<Vec<u8>>,
    automaton: Option<AhoCorasick>,
}

/// The literals found, a bit each.
#[derive(Debug, Clone, Default)]
pub(super) struct Found(Vec<u64>);

impl Filter {
    /// Takes in what `pattern` requires and tells the pattern where to look.
    pub(super) fn take(
        &mut self,
        pattern: &mut Pattern,
        known: &mut std::collections::HashMap<Vec<u8>, u32>,
    ) {
        pattern.gate = pattern
            .required
            .iter()
            .map(|group| {
                let place = |literal: &Vec<u8>| {
                    *known.entry(literal.clone()).or_insert_with(|| {
                        self.literals.push(literal.clone());
                        self.literals.len() as u32 - 1
                    })
                };
                group.iter().map(place).collect()
            })
            .collect();
    }

    /// Makes the automaton once every pattern was taken in.
    pub(super) fn finish(&mut self) {
        if !self.literals.is_empty() {
            // Without an automaton every pattern is tried: slower, and never wrong.
            let bytes: usize = self.literals.iter().map(Vec::len).sum();
            let kind = (bytes <= DFA_LIMIT).then_some(AhoCorasickKind::DFA);
            self.automaton =
                AhoCorasick::builder().ascii_case_insensitive(true).kind(kind).build(&self.literals).ok();
        }
    }

    /// Adds the literals that `text` contains to `found`.
    pub(super) fn scan(&self, text: &str, found: &mut Found) {
        let Some(automaton) = &self.automaton else { return found.0.resize(self.words(), u64::MAX) };
        found.0.resize(self.words(), 0);
        for hit in automaton.find_overlapping_iter(text) {
            let id = hit.pattern().as_usize();
            found.0[id / 64] |= 1 << (id % 64);
        }
    }

    fn words(&self) -> usize {
        self.literals.len().div_ceil(64)
    }
}

impl Found {
    /// Whether a pattern with this gate can match at all.
    pub(super) fn admits(&self, gate: &[Vec<u32>]) -> bool {
        gate.iter().all(|group| self.has_any(group))
    }

    /// Whether one of these literals was found.
    pub(super) fn has_any(&self, literals: &[u32]) -> bool {
        let has = |id: &u32| self.0.get(*id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1);
        literals.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(text: &str) -> Vec<Vec<String>> {
        let pattern = Pattern::new(text).unwrap();
        let shown = |literal: &Vec<u8>| String::from_utf8_lossy(literal).into_owned();
        pattern.required.iter().map(|group| group.iter().map(shown).collect()).collect()
    }

    #[test]
    fn the_literals_of_a_pattern_are_those_that_no_match_is_without() {
        assert_eq!(required("^(?<type>[A-Z]+) Host Alert: .+ down$"), [[" host alert: "], [" down"]]);
        assert_eq!(required("(?i-u:Down)"), [["down"]]);
        assert_eq!(required("CRITICAL|DOWN"), [["critical", "down"]]);
        assert!(required("CRITICAL|[0-9]").is_empty());
        assert!(required("(?:Failed)?").is_empty());
        assert_eq!(required("(?:Failed)+"), [["failed"]]);
    }

    #[test]
    fn words_are_whole_and_in_any_case() {
        let is = |word: &str, text: &str| Pattern::word(&[word.to_owned()]).unwrap().regex.is_match(text);
        assert!(is("down", "web01 is DOWN!"));
        assert!(!is("down", "downtime"));
        assert!(is("störung", "STÖRUNG im Netz"));
        assert!(is("C++", "in c++ code"));
        assert!(is("disk full", "Disk Full"));
    }

    #[test]
    fn the_filter_admits_every_pattern_that_matches() {
        let text = "** PROBLEM Host Alert: web01 is DOWN **";
        let mut filter = Filter::default();
        let mut known = std::collections::HashMap::new();
        let mut patterns: Vec<_> =
            ["host alert", "(?i)HOST.*down", "Alert: .+ is", "UP|DOWN", "x|y", "RECOVERY"]
                .map(|text| Pattern::new(text).unwrap())
                .into();
        patterns.iter_mut().for_each(|pattern| filter.take(pattern, &mut known));
        filter.finish();
        let mut found = Found::default();
        filter.scan(text, &mut found);
        for pattern in &patterns {
            assert!(found.admits(&pattern.gate) || !pattern.regex.is_match(text), "{}", pattern.regex);
        }
        assert!(!found.admits(&patterns[5].gate));
    }
}
