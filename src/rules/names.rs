//! Names: which are known at each point of a file, which are there on every way to it, and where each is
//! kept. A template is tried at load with every name that may be missing left out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::diagnostic::{nearest, suggest};

use super::condition::{Check, Condition, Test};
use super::field::{Field, Key, MailField};
use super::file::{File, Target, condition_names, find_word};
use super::load::Loader;
use super::shipped::is_shipped;
use super::template::{Failure, Template};

impl Loader<'_> {
    /// Gives every name of a file its slot and finds names that nothing provides. Returns how many.
    pub(super) fn resolve(&mut self, files: &mut [File], at: usize) -> usize {
        let mut names = Names::default();
        let mut when = files[at].when.take();
        self.lost = files[at].lost;
        self.lines = files[at].lines.is_some();
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
                    let help = match nearest(name, known.iter().map(String::as_str)) {
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
            Field::Line(_) => {
                self.has_lines(file, test.span.clone());
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

    /// Whether the file that the rule runs in says where its labelled lines end; reports it if not.
    fn has_lines(&mut self, file: &File, span: std::ops::Range<usize>) -> bool {
        if !self.lines && !self.lost {
            self.error(
                file,
                span,
                "this file does not say where the labelled lines end".to_owned(),
                "write `lines = { until = '^Description:' }` in `[source]`: what stands below is others' text",
            );
        }
        self.lines
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
                        let help = match nearest(name, known.iter().map(String::as_str)) {
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
                Field::Line(_) => sound &= self.has_lines(file, find_word(&file.source, span, path)),
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
                let name = match path.strip_prefix("line_") {
                    Some(label) => format!("line.{}", label.replace('_', "-")),
                    None => path.replace('_', "-"),
                };
                let help = format!(
                    "let `when` ask that it is there, `{name} = {{ present = true }}`, or write `{{{{ {path} | default(\"...\") }}}}`"
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
                | F::TlsSubject
                | F::Spf
                | F::Dkim
                | F::DkimDomain
                | F::Dmarc
                | F::Arc
        ),
        _ => false,
    }
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
