//! From rule files to a rule set: names get their places, overrides take theirs, patterns go into the
//! filters, and everything that is wrong is found at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source, suggest};

use super::condition::{Check, Condition, Test};
use super::example::Example;
use super::field::{Field, Key, MailField};
use super::file::{self, File, Let, Parameters, Set, Target};
use super::lines::Bounds;
use super::lint;
use super::pattern::{Filter, Pattern};
use super::shipped::is_shipped;
use super::site::Site;
use super::template::Engine;

/// A rule file, ready to judge.
pub(super) struct RuleFile {
    pub(super) source: Source,
    pub(super) name: Arc<str>,
    /// The product family whose external ids its rules give.
    pub(super) family: Arc<str>,
    /// Whether it is a shipped one as it was shipped.
    pub(super) shipped: bool,
    pub(super) when: Option<Condition>,
    /// What the mails of `when` must contain.
    pub(super) gate: Option<Gate>,
    pub(super) split: Option<Pattern>,
    pub(super) lines: Option<Bounds>,
    pub(super) rules: Vec<Rule>,
    /// For each rule what its mails must contain, side by side, so that the rules that cannot hold are
    /// passed over without being looked at.
    pub(super) gates: Vec<Option<Gate>>,
    pub(super) engine: Engine,
    /// How many names the file's captures and `let`s have.
    pub(super) slots: usize,
    pub(super) examples: Vec<Example>,
}

/// A rule, ready to judge.
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) when: Option<Condition>,
    pub(super) lets: Vec<Let>,
    pub(super) sets: Vec<Set>,
    pub(super) teams: Option<Vec<String>>,
    pub(super) parameters: Option<Parameters>,
    pub(super) drop: Option<Arc<str>>,
    pub(super) keep: bool,
    pub(super) stop: bool,
    /// The file in which the rule is written: its engine has the templates of the rule.
    pub(super) home: usize,
}

/// Literals of which a field must contain one.
pub(super) struct Gate {
    pub(super) filter: usize,
    pub(super) literals: [u32; MOST_GATE_LITERALS],
}

/// How many literals a gate holds; a rule that may match by more has none.
const MOST_GATE_LITERALS: usize = 4;

/// The literals of all patterns on one field.
pub(super) struct FieldFilter {
    pub(super) field: Field,
    pub(super) filter: Filter,
}

/// Loads `sources`; see [`super::RuleSet::load`].
pub(super) fn load(
    sources: &[Source],
    site: &Site,
) -> Result<(Vec<RuleFile>, Vec<FieldFilter>), Vec<Diagnostic>> {
    let mut loader = Loader { site, found: Vec::new(), lost: false, lines: false };
    let mut files: Vec<File> =
        sources.iter().filter_map(|source| file::read(source, &site.zone, &mut loader.found)).collect();
    for (home, file) in files.iter_mut().enumerate() {
        file.rules.iter_mut().for_each(|rule| rule.home = home);
    }
    loader.names_are_unique(&files);
    for file in &files {
        for rule in &file.rules {
            loader.site_has_what_is_set(file, rule);
        }
        if file.is_sound() {
            lint::check(file, &mut loader.found);
        }
    }
    loader.switch_off(&mut files);
    loader.override_rules(&mut files);
    let slots: Vec<usize> = (0..files.len()).map(|at| loader.resolve(&mut files, at)).collect();
    if !loader.found.is_empty() {
        let order = |path: &str| sources.iter().position(|source| &*source.path == path);
        loader.found.sort_by_key(|d| (order(&d.path), d.line, d.column));
        loader.found.dedup();
        return Err(loader.found);
    }
    let filters = filters(&mut files);
    Ok((files.into_iter().zip(slots).map(|(file, slots)| ready(file, slots)).collect(), filters))
}

pub(super) struct Loader<'s> {
    pub(super) site: &'s Site,
    pub(super) found: Vec<Diagnostic>,
    /// Whether names are lost at this point of the file under way, so that none can be called unknown.
    pub(super) lost: bool,
    /// Whether the file under way has labelled lines.
    pub(super) lines: bool,
}

impl Loader<'_> {
    pub(super) fn error(
        &mut self,
        file: &File,
        span: std::ops::Range<usize>,
        message: String,
        help: impl Into<String>,
    ) {
        self.found.push(file.source.diagnostic(span, message).help(help));
    }

    fn names_are_unique(&mut self, files: &[File]) {
        let mut sources: HashMap<&str, &File> = HashMap::new();
        for file in files {
            if let Some(other) = sources.insert(&file.name.value, file) {
                let message = format!("the source `{}` is in {} already", file.name.value, other.source.path);
                self.error(
                    file,
                    file.name.span.clone(),
                    message,
                    format!(
                        "choose another name; to replace that file, switch it off: [off] rules = [\"{}\"]",
                        file.name.value
                    ),
                );
            }
            let mut names = BTreeSet::new();
            for rule in &file.rules {
                if !names.insert(&rule.name.value) {
                    let message = format!("two rules are called `{}`", rule.name.value);
                    self.error(
                        file,
                        rule.name.span.clone(),
                        message,
                        "the trace could not tell them apart; choose another name",
                    );
                }
            }
        }
    }

    /// Teams and colours are the site's: a rule that names others can never do what it says.
    fn site_has_what_is_set(&mut self, file: &File, rule: &file::Rule) {
        for team in rule.teams.iter().flatten() {
            if !self.site.teams.contains(&team.value) {
                let help = suggest(&team.value, self.site.teams.iter().map(String::as_str));
                self.error(file, team.span.clone(), format!("there is no team `{}`", team.value), help);
            }
        }
        let mut unknown = Vec::new();
        if let Some(when) = &rule.when {
            when.tests(&mut |test| {
                if let (Field::Mail(MailField::Team), Check::Equals(teams)) = (&test.field, &test.check) {
                    let strange = teams
                        .iter()
                        .filter(|team| !self.site.teams.iter().any(|t| t.eq_ignore_ascii_case(team)));
                    unknown.extend(strange.map(|team| (test.span.clone(), team.clone())));
                }
            });
        }
        for (span, team) in unknown {
            let help = suggest(&team, self.site.teams.iter().map(String::as_str));
            self.error(file, span, format!("there is no team `{team}`"), help);
        }
        // A shipped colour is a hint: where the site has no service for it, it is a tile.
        if is_shipped(&file.source) {
            return;
        }
        for set in &rule.sets {
            let (Target::Key(Key::Color), Some(color)) = (&set.target, set.value.value.literal()) else {
                continue;
            };
            if self.site.service_of(color).is_none() {
                let known = self.site.colors.iter().map(|(color, _)| color.as_str());
                let help = if self.site.colors.is_empty() {
                    format!(
                        "SIGNL4 shows a service's colour: add `{color} = \"name of the service\"` to [signl4.colors]"
                    )
                } else {
                    suggest(color, known)
                };
                self.error(
                    file,
                    set.value.span.clone(),
                    format!("no service has the colour `{color}`"),
                    help,
                );
            }
        }
    }

    fn switch_off(&mut self, files: &mut [File]) {
        for at in 0..files.len() {
            for name in files[at].off.clone() {
                match place_of(files, &name.value) {
                    Some((target, _)) if target == at => {
                        let message = "a file cannot switch off its own rules".to_owned();
                        self.error(&files[at], name.span, message, "remove the rule instead");
                    }
                    Some((target, Some(rule))) => {
                        files[target].rules.remove(rule);
                    }
                    Some((target, None)) => files[target].rules.clear(),
                    None => self.unknown_rule(files, at, &name),
                }
            }
        }
    }

    fn override_rules(&mut self, files: &mut [File]) {
        for at in 0..files.len() {
            let (overriding, own): (Vec<_>, Vec<_>) =
                std::mem::take(&mut files[at].rules).into_iter().partition(|rule| rule.overrides.is_some());
            files[at].rules = own;
            for rule in overriding {
                let name = rule.overrides.clone().expect("these were parted by it");
                match place_of(files, &name.value) {
                    Some((target, Some(place))) if target != at => files[target].rules[place] = rule,
                    Some(_) => {
                        let message = format!("`{}` is no rule of another file", name.value);
                        self.error(
                            &files[at],
                            name.span,
                            message,
                            "write \"SOURCE: RULE\"; a whole source is switched off by [off]",
                        );
                    }
                    None => self.unknown_rule(files, at, &name),
                }
            }
        }
    }

    fn unknown_rule(&mut self, files: &[File], at: usize, name: &crate::document::Located<String>) {
        let known: Vec<String> = files
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .flat_map(|(_, file)| {
                let rules = file.rules.iter().map(|rule| format!("{}: {}", file.name.value, rule.name.value));
                std::iter::once(file.name.value.clone()).chain(rules)
            })
            .collect();
        let help = match crate::diagnostic::nearest(&name.value, known.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "write \"SOURCE: RULE\" as the trace shows it".to_owned(),
        };
        self.error(&files[at], name.span.clone(), format!("there is no rule `{}`", name.value), help);
    }
}

/// The place of `SOURCE: RULE` or of `SOURCE`.
fn place_of(files: &[File], name: &str) -> Option<(usize, Option<usize>)> {
    files.iter().enumerate().find_map(|(at, file)| {
        let rest = name.strip_prefix(file.name.value.as_str())?;
        if rest.is_empty() {
            return Some((at, None));
        }
        let rule = rest.strip_prefix(':')?.trim_start();
        file.rules.iter().position(|r| r.name.value == rule).map(|place| (at, Some(place)))
    })
}

/// Gathers the literals of all patterns, by field, into one filter each.
fn filters(files: &mut [File]) -> Vec<FieldFilter> {
    let mut filters: Vec<(FieldFilter, HashMap<Vec<u8>, u32>)> = Vec::new();
    for file in files {
        let conditions =
            file.when.iter_mut().chain(file.rules.iter_mut().filter_map(|rule| rule.when.as_mut()));
        for condition in conditions {
            condition.tests_mut(&mut |test| {
                let Check::Matches(pattern) = &mut test.check else { return };
                if pattern.required.is_empty() || !matches!(test.field, Field::Mail(_) | Field::Header(_)) {
                    return;
                }
                let at = filters.iter().position(|(f, _)| f.field == test.field).unwrap_or_else(|| {
                    let new = FieldFilter { field: test.field.clone(), filter: Filter::default() };
                    filters.push((new, HashMap::new()));
                    filters.len() - 1
                });
                let (filter, known) = &mut filters[at];
                filter.filter.take(pattern, known);
                test.filter = Some(at);
            });
        }
    }
    filters
        .into_iter()
        .map(|(mut filter, _)| {
            filter.filter.finish();
            filter
        })
        .collect()
}

/// The gate of a rule: the longest literals that one of its necessary tests asks for.
fn gate(condition: &Condition) -> Option<Gate> {
    let mut tests = Vec::new();
    necessary(condition, &mut tests);
    let groups = tests.into_iter().filter_map(|test| match &test.check {
        Check::Matches(pattern) => Some((test.filter?, pattern)),
        _ => None,
    });
    let groups = groups.flat_map(|(filter, pattern)| {
        let lengths = pattern.required.iter().map(|group| group.iter().map(Vec::len).min().unwrap_or(0));
        pattern.gate.iter().zip(lengths).map(move |(ids, length)| (filter, ids, length))
    });
    let few = groups.filter(|(_, ids, _)| !ids.is_empty() && ids.len() <= MOST_GATE_LITERALS);
    let (filter, ids, _) = few.max_by_key(|(_, _, length)| *length)?;
    // A group of fewer is filled up with its first.
    let mut literals = [ids[0]; MOST_GATE_LITERALS];
    literals[..ids.len()].copy_from_slice(ids);
    Some(Gate { filter, literals })
}

/// The tests that must all hold for `condition` to hold.
fn necessary<'c>(condition: &'c Condition, tests: &mut Vec<&'c Test>) {
    match condition {
        Condition::All(inner) => inner.iter().for_each(|condition| necessary(condition, tests)),
        Condition::Test(test) => tests.push(test),
        Condition::Any(_) | Condition::Not(_) => (),
    }
}

fn ready(file: File, slots: usize) -> RuleFile {
    let gates = file.rules.iter().map(|rule| rule.when.as_ref().and_then(gate)).collect();
    let rules = file
        .rules
        .into_iter()
        .map(|rule| Rule {
            name: rule.name.value.into(),
            when: rule.when,
            lets: rule.lets,
            sets: rule.sets,
            teams: rule.teams.map(|teams| {
                let mut names: Vec<String> = Vec::new();
                for team in teams {
                    if !names.contains(&team.value) {
                        names.push(team.value);
                    }
                }
                names
            }),
            parameters: rule.parameters,
            drop: rule.drop.map(|reason| reason.value.into()),
            keep: rule.keep,
            stop: rule.stop,
            home: rule.home,
        })
        .collect();
    let name: Arc<str> = file.name.value.into();
    RuleFile {
        shipped: is_shipped(&file.source),
        source: file.source,
        family: file.family.map_or_else(|| Arc::clone(&name), |family| family.value.into()),
        name,
        gate: file.when.as_ref().and_then(gate),
        when: file.when,
        split: file.split,
        lines: file.lines,
        rules,
        gates,
        engine: file.engine,
        slots,
        examples: file.examples,
    }
}
