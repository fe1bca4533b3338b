//! From rule files to a rule set: names get their places, overrides take theirs, patterns go into the
//! filters, and everything that is wrong is found at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source, suggest};

use super::condition::{Check, Condition, Test};
use super::example::Example;
use super::field::{Field, Key, MailField};
use super::file::{self, File, Let, Parameters, Set, Target, condition_names, find_word};
use super::pattern::{Filter, Pattern};
use super::reach;
use super::template::{Engine, Failure, Template};
use super::{Site, is_shipped};

/// A rule file, ready to judge.
pub(super) struct Sheet {
    pub(super) source: Source,
    pub(super) name: Arc<str>,
    pub(super) when: Option<Condition>,
    pub(super) split: Option<Pattern>,
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
    /// Whose engine has its templates.
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
) -> Result<(Vec<Sheet>, Vec<FieldFilter>), Vec<Diagnostic>> {
    let mut loader = Loader { site, found: Vec::new(), lost: false };
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
            reach::check(file, &mut loader.found);
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
    Ok((files.into_iter().zip(slots).map(|(file, slots)| sheet(file, slots)).collect(), filters))
}

struct Loader<'s> {
    site: &'s Site,
    found: Vec<Diagnostic>,
    /// Whether names are lost at this point of the file under way, so that none can be called unknown.
    lost: bool,
}

impl Loader<'_> {
    fn error(&mut self, file: &File, span: std::ops::Range<usize>, message: String, help: impl Into<String>) {
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
                    "rules are told apart by source and name; choose another",
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

    /// Gives every name of a file its slot and finds names that nothing provides. Returns how many.
    fn resolve(&mut self, files: &mut [File], at: usize) -> usize {
        let mut names = Names::default();
        let mut when = files[at].when.take();
        self.lost = files[at].lost;
        if let Some(condition) = &mut when {
            self.bind(files, at, condition, &mut names);
        }
        let mut rules = std::mem::take(&mut files[at].rules);
        for rule in &mut rules {
            self.lost |= rule.lost;
            let home = rule.home;
            let mut inner = names.clone();
            if let Some(condition) = &mut rule.when {
                self.bind(files, home, condition, &mut inner);
            }
            for made in &mut rule.lets {
                self.template(files, home, &mut made.value.value, &made.value.span, &inner);
                made.slot = inner.provide(&made.name.value, true);
            }
            for set in &mut rule.sets {
                self.template(files, home, &mut set.value.value, &set.value.span, &inner);
            }
            // What a rule provided may be there for the rules below; if it always applies, it is there.
            if rule.when.is_none() {
                inner.certain.extend(rule.sets.iter().filter_map(|set| match &set.target {
                    Target::Key(key) if set.value.value.literal().is_some() => {
                        Some(Field::Event(*key).label())
                    }
                    _ => None,
                }));
                names = inner;
            } else {
                names.slots = inner.slots;
                names.hidden = inner.hidden;
            }
        }
        files[at].rules = rules;
        files[at].when = when;
        names.slots.len()
    }

    /// Resolves the names of `condition`, which is written in the file `home`.
    fn bind(&mut self, files: &[File], home: usize, condition: &mut Condition, names: &mut Names) {
        match condition {
            Condition::All(inner) => inner.iter_mut().for_each(|c| self.bind(files, home, c, names)),
            Condition::Any(inner) => {
                let mut certain: Option<BTreeSet<String>> = None;
                for condition in inner {
                    let mut branch = names.clone();
                    self.bind(files, home, condition, &mut branch);
                    names.slots = branch.slots;
                    names.hidden = branch.hidden;
                    certain = Some(match certain {
                        None => branch.certain,
                        Some(before) => before.intersection(&branch.certain).cloned().collect(),
                    });
                }
                names.certain.extend(certain.unwrap_or_default());
            }
            Condition::Not(inner) => {
                let mut branch = names.clone();
                self.bind(files, home, inner, &mut branch);
                // The slots are kept for the run; the names are not provided.
                names
                    .hidden
                    .extend(branch.slots.keys().filter(|name| !names.slots.contains_key(*name)).cloned());
                names.slots = branch.slots;
            }
            Condition::Test(test) => self.bind_test(files, home, test, names),
        }
    }

    fn bind_test(&mut self, files: &[File], home: usize, test: &mut Test, names: &mut Names) {
        let file = &files[home];
        match &mut test.field {
            Field::Name { name, slot } => match names.place(name) {
                Some(place) => *slot = place,
                None if !self.lost => {
                    let known: Vec<String> = condition_names()
                        .map(str::to_owned)
                        .chain(names.known().map(str::to_owned))
                        .collect();
                    let help = match crate::diagnostic::nearest(name, known.iter().map(String::as_str)) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "it is no field of a mail, and nothing above captures it".to_owned(),
                    };
                    let message = format!("unknown field `{name}`");
                    self.error(file, test.span.clone(), message, help);
                }
                None => (),
            },
            Field::Site(name) => {
                self.site_value(file, name.clone(), test.span.clone());
            }
            _ => (),
        }
        if !matches!(test.check, Check::Present(false)) {
            names.certain.insert(test.field.label());
        }
        if let Check::Matches(pattern) = &mut test.check {
            for capture in &mut pattern.captures {
                capture.slot = names.provide(&capture.name, !capture.optional);
            }
        }
    }

    /// Whether the site has the value; reports it if it must.
    fn site_value(&mut self, file: &File, name: Arc<str>, span: std::ops::Range<usize>) -> bool {
        // A shipped rule may ask for what a site need not have.
        if is_shipped(&file.source) || self.site.value(&name).is_some() {
            return true;
        }
        let help = if self.site.values.is_empty() {
            format!("add `{name} = \"...\"` to [rules.values]")
        } else {
            suggest(&name, self.site.values.iter().map(|(name, _)| name.as_str()))
        };
        self.error(file, span, format!("the site has no value `{name}`"), help);
        false
    }

    /// Resolves the names of a template and tries it, so that none can be missing when a mail comes.
    fn template(
        &mut self,
        files: &[File],
        home: usize,
        template: &mut Template,
        span: &std::ops::Range<usize>,
        names: &Names,
    ) {
        let file = &files[home];
        let mut sound = true;
        for (path, field) in &mut template.names {
            match field {
                Field::Name { name, slot } => match names.place(name) {
                    Some(place) => *slot = place,
                    None => {
                        sound = false;
                        if self.lost {
                            continue;
                        }
                        let fields = MailField::ALL.iter().map(|(name, _)| name.replace('-', "_"));
                        let known: Vec<String> = fields.chain(names.known().map(str::to_owned)).collect();
                        let help = match crate::diagnostic::nearest(name, known.iter().map(String::as_str)) {
                            Some(meant) => format!("did you mean `{meant}`?"),
                            None => {
                                "no condition captures it and no `let` makes it on the way here".to_owned()
                            }
                        };
                        let place = find_word(&file.source, span, path);
                        self.error(file, place, format!("unknown name `{name}`"), help);
                    }
                },
                Field::Site(name) => {
                    sound &= self.site_value(file, name.clone(), find_word(&file.source, span, path));
                }
                _ => (),
            }
        }
        if !sound {
            return;
        }
        let missing: Vec<String> = template
            .names
            .iter()
            .filter(|(_, field)| !names.certain.contains(&field.label()) && !always_there(field))
            .map(|(path, _)| path.clone())
            .collect();
        let try_without = |absent: &dyn Fn(&str) -> bool, dummy: &'static str| {
            file.engine.render(template, |path, _| (!absent(path)).then_some(dummy.into()))
        };
        // The dummies are a text that is in no table and between no marks, and one that is a number.
        for dummy in ["\u{1}", "1795194245"] {
            match try_without(&|_| false, dummy) {
                Ok(_) => (),
                Err(Failure::Missing) => {
                    let message = "a filter here may find nothing".to_owned();
                    return self.error(file, span.clone(), message, "say what then: end it with `| default(\"...\")`; an empty default leaves the value as it was");
                }
                Err(Failure::Broken(message)) => {
                    let help = if message.starts_with("there is no table") {
                        "write `[table.NAME]` and a line for each value, `\"from\" = \"to\"`"
                    } else {
                        "every value is text; the filters are in rules/README.md"
                    };
                    return self.error(file, span.clone(), message, help);
                }
            }
        }
        if self.lost {
            return;
        }
        for path in missing {
            if try_without(&|other| other == path, "\u{1}") == Err(Failure::Missing) {
                let place = find_word(&file.source, span, &path);
                let help = format!(
                    "write `{{{{ {path} | default(\"...\") }}}}`, or let `when` ask that it is present"
                );
                self.error(file, place, format!("`{path}` may be missing here"), help);
            }
        }
    }
}

/// Whether every mail has the field, be it empty.
pub(super) fn always_there(field: &Field) -> bool {
    use MailField as F;
    match field {
        Field::Event(Key::Status) => true,
        Field::Mail(field) => !matches!(
            field,
            F::FromName
                | F::Cc
                | F::ReplyTo
                | F::MessageId
                | F::Thread
                | F::Attachment
                | F::AttachmentType
                | F::Client
                | F::User
        ),
        _ => false,
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

/// The names of a file at one point of it.
#[derive(Default, Clone)]
struct Names {
    slots: HashMap<String, usize>,
    /// Names that only a `not` captures: they have a slot and are never there.
    hidden: BTreeSet<String>,
    /// Labels of the fields that have a value here on every way.
    certain: BTreeSet<String>,
}

impl Names {
    fn provide(&mut self, name: &str, certain: bool) -> usize {
        self.hidden.remove(name);
        if certain {
            self.certain.insert(name.to_owned());
        }
        let next = self.slots.len();
        *self.slots.entry(name.to_owned()).or_insert(next)
    }

    fn place(&self, name: &str) -> Option<usize> {
        if self.hidden.contains(name) { None } else { self.slots.get(name).copied() }
    }

    fn known(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().filter(|name| !self.hidden.contains(*name)).map(String::as_str)
    }
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

fn sheet(file: File, slots: usize) -> Sheet {
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
    Sheet {
        source: file.source,
        name: file.name.value.into(),
        when: file.when,
        split: file.split,
        rules,
        gates,
        engine: file.engine,
        slots,
        examples: file.examples,
    }
}
