//! Finds the rules of a file that can do nothing: they are never reached, never hold, or a rule below
//! always has the last word.

use std::collections::HashSet;

use crate::diagnostic::Diagnostic;

use super::condition::{Check, Condition, Test};
use super::field::{Field, MailField};
use super::file::{File, Rule, Target};

/// Adds what is wrong with the order of the rules of `file` to `found`.
pub(super) fn check(file: &File, found: &mut Vec<Diagnostic>) {
    let mut error = |rule: &Rule, message: String, help: &str| {
        found.push(file.source.diagnostic(rule.name.span.clone(), message).help(help));
    };
    let rules: Vec<&Rule> = file.rules.iter().filter(|rule| rule.overrides.is_none()).collect();
    if let Some(end) = rules.iter().position(|rule| rule.when.is_none() && (rule.stop || rule.drop.is_some()))
    {
        for rule in &rules[end + 1..] {
            let message =
                format!("the rule can never be reached: `{}` always ends the file", rules[end].name.value);
            error(rule, message, "give the rule above a `when`, or move this one up");
        }
    }
    for (at, end) in rules.iter().enumerate().filter(|(_, rule)| rule.stop || rule.drop.is_some()) {
        for rule in rules[at + 1..].iter().filter(|rule| narrows(end, rule)) {
            let message = format!(
                "the rule can never be reached: whenever it would hold, `{}` above ends the file",
                end.name.value
            );
            error(rule, message, "move this one up, or ask less of it");
        }
    }
    for rule in &rules {
        if let Some(field) = contradiction(file.when.as_ref(), rule.when.as_ref()) {
            error(
                rule,
                format!("the rule can never hold: it asks of `{field}` what cannot be at once"),
                "split it in two rules, or use `any`",
            );
        }
    }
    let briefs: Vec<Brief<'_>> = rules.iter().map(|rule| Brief::of(rule)).collect();
    for (at, rule) in rules.iter().enumerate() {
        if let Some(later) = briefs[at].overriding(&briefs[at + 1..]) {
            let name = &rules[at + 1 + later].name.value;
            error(
                rule,
                format!("the rule is for nothing: `{name}` below always overrides it"),
                "the later set wins: move the general rule up",
            );
        }
    }
}

/// Whether `rule` asks for everything that `end` asks for, of the mail itself: what rules in between set can
/// then change neither.
fn narrows(end: &Rule, rule: &Rule) -> bool {
    let (Some(ends), Some(holds)) = (&end.when, &rule.when) else { return false };
    let (mut asked, mut denied) = (Vec::new(), Vec::new());
    necessary(ends, &mut asked, &mut denied);
    let mut all = 0;
    ends.tests(&mut |_| all += 1);
    let of_the_mail = |test: &&Test| matches!(test.field, Field::Mail(_) | Field::Header(_));
    if asked.len() != all || asked.is_empty() || !asked.iter().all(of_the_mail) {
        return false;
    }
    let (mut needed, mut never) = (Vec::new(), Vec::new());
    necessary(holds, &mut needed, &mut never);
    asked.iter().all(|test| needed.iter().any(|other| same_test(test, other)))
}

/// The field of which the conditions together ask what no mail can have.
fn contradiction(source: Option<&Condition>, rule: Option<&Condition>) -> Option<String> {
    let mut tests = Vec::new();
    let mut denied = Vec::new();
    for condition in source.into_iter().chain(rule) {
        necessary(condition, &mut tests, &mut denied);
    }
    for (at, test) in tests.iter().enumerate() {
        let twice = tests[at + 1..].iter().filter(|other| other.field == test.field);
        for other in twice {
            let clash = match (&test.check, &other.check) {
                (Check::Equals(a), Check::Equals(b)) if single(&test.field) => {
                    !a.iter().any(|a| b.iter().any(|b| a.to_lowercase() == b.to_lowercase()))
                }
                (Check::Flag(a), Check::Flag(b)) => a != b,
                (Check::Present(false), Check::Present(false)) => false,
                (Check::Present(false), _) | (_, Check::Present(false)) => true,
                _ => false,
            };
            if clash {
                return Some(test.field.label());
            }
        }
        if denied.iter().any(|other| same_test(other, test)) {
            return Some(test.field.label());
        }
    }
    None
}

/// The tests that must all hold, and those that must not.
fn necessary<'c>(condition: &'c Condition, tests: &mut Vec<&'c Test>, denied: &mut Vec<&'c Test>) {
    match condition {
        Condition::All(inner) => inner.iter().for_each(|condition| necessary(condition, tests, denied)),
        Condition::Test(test) => tests.push(test),
        Condition::Not(inner) => {
            if let Condition::Test(test) = &**inner {
                denied.push(test);
            }
        }
        Condition::Any(_) => (),
    }
}

/// Whether the field has one value at most.
fn single(field: &Field) -> bool {
    use MailField as F;
    match field {
        Field::Mail(field) => !matches!(
            field,
            F::From
                | F::FromName
                | F::To
                | F::Cc
                | F::ReplyTo
                | F::Attachment
                | F::AttachmentType
                | F::Recipient
                | F::DkimDomain
        ),
        Field::Header(_) => false,
        _ => true,
    }
}

/// Whether the conditions are made of the same tests in the same order.
fn same(a: &Condition, b: &Condition) -> bool {
    match (a, b) {
        (Condition::All(a), Condition::All(b)) | (Condition::Any(a), Condition::Any(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Condition::Not(a), Condition::Not(b)) => same(a, b),
        (Condition::Test(a), Condition::Test(b)) => same_test(a, b),
        _ => false,
    }
}

fn same_test(a: &Test, b: &Test) -> bool {
    // A label says all of a check but for lists of texts and schedules, which it shortens.
    let checks = match (&a.check, &b.check) {
        (Check::Equals(a), Check::Equals(b)) => a == b,
        (Check::Matches(a), Check::Matches(b)) => a.regex.as_str() == b.regex.as_str(),
        (Check::Clock(a), Check::Clock(b)) => a == b,
        _ => true,
    };
    checks && a.field == b.field && a.label == b.label
}

/// A rule as far as it matters to the rules around it.
struct Brief<'r> {
    /// Its `when`; none if it always holds.
    when: Option<&'r Condition>,
    targets: HashSet<Target>,
    /// Whether it does nothing but set.
    only_sets: bool,
    /// Whether all that it sets is the same for every mail, so that none of it can come out empty.
    literal: bool,
    /// Whether it sees what the rules above it set.
    reads: bool,
    /// Whether it can end the file.
    ends: bool,
}

impl<'r> Brief<'r> {
    fn of(rule: &'r Rule) -> Self {
        let (mut captures, mut reads) = (false, !rule.lets.is_empty());
        if let Some(condition) = &rule.when {
            condition.tests(&mut |test| {
                captures |= matches!(&test.check, Check::Matches(pattern) if !pattern.captures.is_empty());
                reads |= is_event(&test.field);
            });
        }
        let acts = rule.stop
            || rule.keep
            || rule.drop.is_some()
            || rule.teams.is_some()
            || rule.parameters.is_some()
            || !rule.lets.is_empty();
        reads |= rule.sets.iter().any(|set| set.value.value.names.iter().any(|(_, field)| is_event(field)));
        Self {
            when: rule.when.as_ref(),
            targets: rule.sets.iter().map(|set| set.target.clone()).collect(),
            only_sets: !acts && !captures && !rule.sets.is_empty(),
            literal: rule.sets.iter().all(|set| set.value.value.literal().is_some()),
            reads,
            ends: rule.stop || rule.drop.is_some(),
        }
    }

    /// The place among `later` of the rule after which nothing is left of what this one did.
    fn overriding(&self, later: &[Self]) -> Option<usize> {
        if !self.only_sets {
            return None;
        }
        for (at, other) in later.iter().enumerate() {
            if other.reads {
                return None;
            }
            let whenever = match (self.when, other.when) {
                (_, None) => true,
                (Some(own), Some(other)) => same(own, other),
                (None, Some(_)) => false,
            };
            if whenever && other.literal && self.targets.is_subset(&other.targets) {
                return Some(at);
            }
            if other.ends {
                return None;
            }
        }
        None
    }
}

fn is_event(field: &Field) -> bool {
    matches!(field, Field::Event(_) | Field::Tile(_))
}
