//! Judges a mail: runs the files in order, each rule of a file in order, and gathers what they set. It
//! knows no clock and no chance: the same rules and the same mail give the same judgement.

use crate::time::parse_duration;
use crate::words::Words;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use crate::mail::{Message, joined};

use super::attach;
use super::condition::{Check, Condition, Test};
use super::draft::{By, Draft};
use super::field::{Field, Key};
use super::file::{Target, is_location, words_of};
use super::lines::{Bounds, Lines};
use super::load::{Gate, Rule, RuleFile};
use super::mail_fields::MailFields;
use super::parameters;
use super::pattern::Found;
use super::rule_set::RuleSet;
use super::template::{Failure, Template};
use super::trace::{Change, Dropped, Matched, Outcome, Piece, RuleTrace, SourceTrace, Tested};
use super::wrapped;

/// Most pieces that one mail is split into; the rest stays with the last.
const MOST_PIECES: usize = 100;

/// Most text that one value of the trace shows, in bytes.
const TRACE_LIMIT: usize = 500;

/// Most text that rules see, in bytes. It bounds what a mail can cost; no alert says anything behind it.
pub(super) const TEXT_LIMIT: usize = 1 << 20;

/// The text of `message` as far as rules see it.
pub(super) fn text_of(message: &Message) -> &str {
    &message.text[..message.text.floor_char_boundary(TEXT_LIMIT)]
}

/// The texts of the pieces that the mail falls into: by the first source that splits it, or one.
pub(super) fn pieces<'m>(rules: &'m RuleSet, whole: &'m MailFields<'m>) -> (Vec<&'m str>, Option<usize>) {
    let text = whole.text;
    let splitting = rules.files.iter().enumerate().filter(|(_, file)| file.split.is_some());
    let splitting = splitting.filter(|(_, file)| !(file.shipped && whole.message.reply));
    for (at, file) in splitting {
        let mut run = Run::new(rules, whole, false);
        if run.cannot_hold(file.gate.as_ref()) {
            continue;
        }
        run.begin(file);
        if !file.when.as_ref().is_none_or(|when| run.holds(when)) {
            continue;
        }
        let split = &file.split.as_ref().expect("only splitting files are here").regex;
        // What stands before the first mark belongs to the first piece: nothing is lost.
        let marks = split.find_iter(text).map(|found| found.start()).filter(|mark| *mark < text.len());
        let marks = marks.skip(1).take(MOST_PIECES - 1);
        let mut pieces = Vec::new();
        let mut start = 0;
        for mark in marks {
            pieces.push(&text[start..mark]);
            start = mark;
        }
        pieces.push(&text[start..]);
        if pieces.len() > 1 {
            return (pieces, Some(at));
        }
    }
    (vec![text], None)
}

/// A judgement under way.
pub(super) struct Run<'g> {
    rules: &'g RuleSet,
    mail: &'g MailFields<'g>,
    /// The names of the file under way.
    names: Vec<Option<Cow<'g, str>>>,
    /// The labelled lines of the text as the file under way sees them, once it has asked.
    lines: OnceCell<Lines<'g>>,
    /// Where they end in the file under way.
    bounds: Option<&'g Bounds>,
    /// What names were before the condition under way, to put them back if it fails.
    before: Vec<(usize, Option<Cow<'g, str>>)>,
    draft: Draft,
    full: bool,
    tested: Vec<Tested>,
    within: Vec<&'static str>,
}

impl<'g> Run<'g> {
    pub(super) fn new(rules: &'g RuleSet, mail: &'g MailFields<'g>, full: bool) -> Self {
        Self {
            rules,
            mail,
            names: Vec::new(),
            lines: OnceCell::new(),
            bounds: None,
            before: Vec::new(),
            draft: Draft::default(),
            full,
            tested: Vec::new(),
            within: Vec::new(),
        }
    }

    /// Nothing is known of `file` yet.
    fn begin(&mut self, file: &'g RuleFile) {
        self.names.clear();
        self.names.resize(file.slots, None);
        self.lines = OnceCell::new();
        self.bounds = file.lines.as_ref();
    }

    /// Runs every file. `split` is the file that made this piece: it speaks about it.
    pub(super) fn judge(mut self, split: Option<usize>) -> (Draft, Piece) {
        let rules = self.rules;
        let mut piece = Piece::default();
        for (at, file) in rules.files.iter().enumerate() {
            // No product sends replies, so shipped rules do not read what a reply quotes.
            let replied = file.shipped && self.mail.message.reply;
            if split != Some(at) && (replied || self.cannot_hold(file.gate.as_ref())) {
                continue;
            }
            self.begin(file);
            // The piece alone may not say all that the whole did; captures are taken where they can be.
            let held = file.when.as_ref().is_none_or(|when| self.holds(when)) || split == Some(at);
            let conditions = std::mem::take(&mut self.tested);
            if !held && !self.full {
                continue;
            }
            let mut trace = SourceTrace {
                file: Arc::clone(&file.source.path),
                source: Arc::clone(&file.name),
                held,
                conditions,
                rules: Vec::new(),
            };
            if held {
                self.run_file(at, file, &mut trace.rules);
            }
            piece.sources.push(trace);
        }
        piece.dropped = self.draft.dropped.clone();
        (self.draft, piece)
    }

    fn run_file(&mut self, at: usize, file: &'g RuleFile, out: &mut Vec<RuleTrace>) {
        let mut ended = false;
        for (place, rule) in file.rules.iter().enumerate() {
            if ended {
                if !self.full {
                    return;
                }
                out.push(RuleTrace::new(&rule.name, Outcome::NotReached));
                continue;
            }
            if self.cannot_hold(file.gates[place].as_ref()) {
                continue;
            }
            let mut held = rule.when.as_ref().is_none_or(|when| self.holds(when));
            held &= rule.parameters.is_none() || wrapped::speaks(self.mail);
            let parameters = rule.parameters.filter(|_| held).map(|from| parameters::read(from, self.mail));
            held &= parameters.as_ref().is_none_or(|found| !found.is_empty());
            let conditions = std::mem::take(&mut self.tested);
            if !held && !self.full {
                continue;
            }
            let mut trace = RuleTrace::new(&rule.name, if held { Outcome::Held } else { Outcome::Failed });
            trace.conditions = conditions;
            if held {
                ended = self.apply(By { file: at, rule: place }, file, rule, parameters, &mut trace);
                trace.stopped = ended;
            }
            out.push(trace);
        }
    }

    /// Does what `rule` says; whether that ends the file.
    fn apply(
        &mut self,
        by: By,
        file: &RuleFile,
        rule: &'g Rule,
        parameters: Option<parameters::Found>,
        trace: &mut RuleTrace,
    ) -> bool {
        if rule.keep && self.draft.dropped.take().is_some() {
            trace.notes.push("took back the drop".to_owned());
        }
        if let Some(reason) = &rule.drop {
            if file.shipped && !wrapped::speaks(self.mail) {
                trace.notes.push("drops nothing, as the mail was only forwarded".to_owned());
                return true;
            }
            let rule = format!("{}: {}", file.name, rule.name);
            self.draft.dropped = Some(Dropped { rule, reason: reason.to_string() });
            return true;
        }
        for made in &rule.lets {
            let text = self.render(rule.home, &made.value.value).unwrap_or_default();
            self.names[made.slot] = Some(Cow::Owned(text));
        }
        for set in &rule.sets {
            match self.render(rule.home, &set.value.value) {
                Ok(text) => self.set(&set.target, text, by, trace),
                Err(Failure::Missing) => {
                    trace.notes.push(format!(
                        "{} is not set: it shows something that is missing",
                        set.target.label()
                    ));
                }
                Err(Failure::Broken(why)) => {
                    trace.notes.push(format!("{} is not set: {why}", set.target.label()));
                }
            }
        }
        if let Some(found) = parameters {
            trace.notes.extend(found.notes);
            for (target, text) in found.sets {
                self.set(&target, text, by, trace);
            }
        }
        if let Some(teams) = &rule.teams {
            if self.full {
                let from = self.draft.teams.as_ref().map(|(teams, _)| teams.join(", "));
                trace.changes.push(Change { field: "team".to_owned(), from, to: teams.join(", ") });
            }
            self.draft.teams = Some((teams.clone(), by));
        }
        rule.stop
    }

    /// Sets `target` to `text` if that can be its value.
    fn set(&mut self, target: &Target, text: String, by: By, trace: &mut RuleTrace) {
        let mut text = text;
        if let Target::Key(key) = target {
            if *key == Key::Tlp
                && let Some(tlp) = super::tlp::Tlp::read(&text)
            {
                text = tlp.word().to_owned();
            }
            if *key == Key::Attach
                && let Some(kinds) = attach::kinds(&text)
            {
                text = kinds;
            }
            let fits = match words_of(*key) {
                None if *key == Key::Attach => attach::kinds(&text).is_some(),
                Some(words) => words.iter().any(|word| word.eq_ignore_ascii_case(&text)),
                None => match key {
                    Key::Location => is_location(&text),
                    Key::Quiet => parse_duration(&text).is_some(),
                    _ => true,
                },
            };
            if !text.is_empty() && !fits {
                let shown = clip(&text);
                trace.notes.push(format!("{} is not set: it cannot be `{shown}`", key.name()));
                return;
            }
            if words_of(*key).is_some() {
                text.make_ascii_lowercase();
            }
            if *key == Key::Title {
                text = joined(&text);
            }
        }
        // A set that comes out empty is no page without a title, but no set.
        if text.is_empty() {
            return;
        }
        let to = self.full.then(|| clip(&text));
        let from = self.draft.set(target, text, by);
        if let Some(to) = to {
            trace.changes.push(Change { field: target.label(), from: from.as_deref().map(clip), to });
        }
    }

    fn render(&self, home: usize, template: &Template) -> Result<String, Failure> {
        self.rules.files[home].engine.render(template, |_, field| self.shown(field))
    }

    /// What a template shows for `field`.
    fn shown(&self, field: &Field) -> Option<Cow<'_, str>> {
        match field {
            Field::Mail(mail) => match self.mail.shown(*mail) {
                Some(text) => Some(text.into()),
                None if super::names::always_there(field) => Some("".into()),
                None => None,
            },
            Field::Header(_) => None,
            Field::Event(key) => self.event(*key).map(Cow::Borrowed),
            Field::Tile(name) => self.draft.tile(name).map(Cow::Borrowed),
            Field::Site(name) => self.rules.site.value(name).map(Cow::Borrowed),
            Field::Line(label) => self.line(label).map(Cow::Borrowed),
            Field::Name { slot, .. } => self.names.get(*slot)?.as_deref().map(Cow::Borrowed),
        }
    }

    /// The value of the first line with this label above the free text.
    fn line(&self, label: &str) -> Option<&'g str> {
        let bounds = self.bounds?;
        self.lines.get_or_init(|| Lines::read(self.mail.text, bounds)).get(label)
    }

    fn event(&self, key: Key) -> Option<&str> {
        self.draft.text(key).or(if key == Key::Status { Some("new") } else { None })
    }

    /// Whether `condition` holds. If it does, its captures are taken; if not, nothing is changed.
    fn holds(&mut self, condition: &'g Condition) -> bool {
        self.before.clear();
        let held = self.test_tree(condition);
        if !held {
            self.undo(0);
        }
        held
    }

    fn undo(&mut self, to: usize) {
        while self.before.len() > to {
            let (slot, value) = self.before.pop().expect("its length was just asked");
            self.names[slot] = value;
        }
    }

    fn test_tree(&mut self, condition: &'g Condition) -> bool {
        let mark = self.before.len();
        match condition {
            Condition::Test(test) => self.test(test),
            Condition::All(inner) => {
                let mut held = true;
                for condition in inner {
                    held &= self.test_tree(condition);
                    // A full trace shows every test, not only the first that failed.
                    if !held && !self.full {
                        return false;
                    }
                }
                held
            }
            Condition::Any(inner) => {
                self.within.push("any");
                let held = inner.iter().any(|condition| {
                    let mark = self.before.len();
                    let held = self.test_tree(condition);
                    if !held {
                        self.undo(mark);
                    }
                    held
                });
                self.within.pop();
                held
            }
            Condition::Not(inner) => {
                self.within.push("not");
                let held = self.test_tree(inner);
                self.within.pop();
                self.undo(mark);
                !held
            }
        }
    }

    fn test(&mut self, test: &'g Test) -> bool {
        let mut matched = None;
        let mut captures = Vec::new();
        let held = self.test_field(test, &mut matched, &mut captures);
        if self.full {
            self.tested.push(Tested {
                field: test.field.label(),
                test: test.label.clone(),
                held,
                within: self.within.clone(),
                matched,
                captures,
            });
        }
        held
    }

    fn test_field(
        &mut self,
        test: &'g Test,
        matched: &mut Option<Matched>,
        captured: &mut Vec<(String, String)>,
    ) -> bool {
        let wanted = match &test.check {
            Check::Present(wanted) => *wanted,
            Check::Clock(schedule) => return schedule.holds(self.mail.envelope.received_at),
            _ => true,
        };
        let rules = self.rules;
        if let (Check::Matches(pattern), Some(filter)) = (&test.check, test.filter) {
            let found = self.found(filter);
            if !found.admits(&pattern.gate) {
                return false;
            }
        }
        match &test.field {
            field @ (Field::Mail(_) | Field::Header(_)) => {
                let mail = self.mail;
                let passed = mail.any_value(field, |value| {
                    self.test_value(&test.check, Cow::Borrowed(value), matched, captured)
                });
                passed == wanted
            }
            field => {
                // What the event or the site says can change or is short: a copy is cheap.
                let value: Option<Cow<'g, str>> = match field {
                    Field::Name { slot, .. } => self.names.get(*slot).cloned().flatten(),
                    Field::Event(key) => self.event(*key).map(|text| Cow::Owned(text.to_owned())),
                    Field::Tile(name) => self.draft.tile(name).map(|text| Cow::Owned(text.to_owned())),
                    Field::Site(name) => rules.site.value(name).map(Cow::Borrowed),
                    Field::Line(label) => self.line(label).map(Cow::Borrowed),
                    Field::Mail(_) | Field::Header(_) => None,
                };
                value.is_some_and(|value| {
                    !value.is_empty() && self.test_value(&test.check, value, matched, captured)
                }) == wanted
            }
        }
    }

    /// Whether the mail lacks what a condition with this gate asks for. A full trace shows every test.
    fn cannot_hold(&self, gate: Option<&Gate>) -> bool {
        !self.full && gate.is_some_and(|gate| !self.found(gate.filter).has_any(&gate.literals))
    }

    /// Which literals of the filter's field the mail contains.
    fn found(&self, filter: usize) -> &'g Found {
        self.mail.found[filter].get_or_init(|| {
            let filter = &self.rules.filters[filter];
            let mut found = Found::default();
            self.mail.any_value(&filter.field, |value| {
                filter.filter.scan(value, &mut found);
                false
            });
            found
        })
    }

    fn test_value(
        &mut self,
        check: &'g Check,
        value: Cow<'g, str>,
        matched: &mut Option<Matched>,
        captured: &mut Vec<(String, String)>,
    ) -> bool {
        let Check::Matches(pattern) = check else {
            let passed = check.passes(&value);
            if passed && self.full && !matches!(check, Check::Flag(_)) {
                *matched = Some(Matched { text: clip(&value), start: 0, end: value.len() });
            }
            return passed;
        };
        if pattern.captures.is_empty() && !self.full {
            return pattern.regex.is_match(&value);
        }
        let Some(groups) = pattern.regex.captures(&value) else { return false };
        if self.full {
            let whole = groups.get_match();
            *matched = Some(Matched { text: clip(whole.as_str()), start: whole.start(), end: whole.end() });
        }
        for capture in &pattern.captures {
            // A group that took no part leaves the name as it was.
            let Some(group) = groups.get(capture.group) else { continue };
            let text = match &value {
                Cow::Borrowed(value) => Cow::Borrowed(value[group.range()].trim()),
                Cow::Owned(_) => Cow::Owned(group.as_str().trim().to_owned()),
            };
            if self.full {
                captured.push((capture.name.clone(), clip(&text)));
            }
            let before = self.names[capture.slot].replace(text);
            self.before.push((capture.slot, before));
        }
        true
    }
}

impl RuleTrace {
    fn new(name: &Arc<str>, outcome: Outcome) -> Self {
        Self {
            rule: Arc::clone(name),
            outcome,
            conditions: Vec::new(),
            changes: Vec::new(),
            notes: Vec::new(),
            stopped: false,
        }
    }
}

fn clip(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(TRACE_LIMIT)];
    if kept.len() == text.len() { text.to_owned() } else { format!("{kept}…") }
}
