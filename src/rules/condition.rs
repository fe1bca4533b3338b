//! Conditions: a tree of tests, as read from a rule file and as run. What a test means for a value is
//! here; where the values come from is the judge's.

use std::net::IpAddr;

use crate::event::Severity;
use crate::words::Words;

use super::field::Field;
use super::pattern::Pattern;
use super::schedule::Schedule;
use crate::network::Network;

/// Whether a rule speaks about a mail.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// All hold, tested in order; each sees the captures of those before.
    All(Vec<Condition>),
    /// The first that holds decides.
    Any(Vec<Condition>),
    /// The inner one does not hold. It captures nothing.
    Not(Box<Condition>),
    /// One test.
    Test(Test),
}

/// A test of one field. Of a field with several values it is enough that one passes.
#[derive(Debug, Clone)]
pub(super) struct Test {
    pub(super) field: Field,
    pub(super) check: Check,
    /// The test as an operator would say it.
    pub(super) label: String,
    /// Its place in its file, for errors.
    pub(super) span: std::ops::Range<usize>,
    /// The filter that knows the literals of this field.
    pub(super) filter: Option<usize>,
}

/// What is asked of a value.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// The pattern is found in it.
    Matches(Box<Pattern>),
    /// It is one of these, compared without case.
    Equals(Vec<String>),
    /// It is a number within these bounds.
    Number(Bounds<f64>),
    /// It is a severity within these bounds.
    Severity(Bounds<Severity>),
    /// It is an address in one of these networks.
    Within(Vec<Network>),
    /// There is a value, and it is not empty; or there is none.
    Present(bool),
    /// The flag is so.
    Flag(bool),
    /// The time is so.
    Clock(Box<Schedule>),
}

/// Lower and upper bounds, each with or without the bound itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds<T> {
    pub(super) at_least: Option<T>,
    pub(super) above: Option<T>,
    pub(super) at_most: Option<T>,
    pub(super) below: Option<T>,
}

impl<T: PartialOrd + Copy> Bounds<T> {
    pub(super) fn hold(&self, value: T) -> bool {
        self.at_least.is_none_or(|bound| value >= bound)
            && self.above.is_none_or(|bound| value > bound)
            && self.at_most.is_none_or(|bound| value <= bound)
            && self.below.is_none_or(|bound| value < bound)
    }

    /// Whether no value can be within.
    pub(super) fn contradict(&self) -> bool {
        let pairs = [
            (self.at_least, self.at_most, false),
            (self.at_least, self.below, true),
            (self.above, self.at_most, true),
            (self.above, self.below, true),
        ];
        pairs.iter().any(|(low, high, strict)| match (low, high) {
            (Some(low), Some(high)) => {
                if *strict {
                    low >= high
                } else {
                    low > high
                }
            }
            _ => false,
        })
    }
}

impl Check {
    /// Whether `value` passes. Patterns, presence, flags and times are not decided by a text alone.
    pub(super) fn passes(&self, value: &str) -> bool {
        match self {
            Self::Matches(pattern) => pattern.regex.is_match(value),
            Self::Equals(texts) => {
                let value = value.trim();
                texts.iter().any(|text| {
                    text.eq_ignore_ascii_case(value)
                        || (!text.is_ascii() && text.to_lowercase() == value.to_lowercase())
                })
            }
            Self::Number(bounds) => number(value).is_some_and(|value| bounds.hold(value)),
            Self::Severity(bounds) => {
                Severity::from_word(value.trim()).is_some_and(|value| bounds.hold(value))
            }
            Self::Within(networks) => value
                .trim()
                .parse::<IpAddr>()
                .is_ok_and(|address| networks.iter().any(|network| network.contains(address))),
            Self::Present(_) => !value.trim().is_empty(),
            Self::Flag(wanted) => (value == "true") == *wanted,
            Self::Clock(schedule) => value.parse().is_ok_and(|at| schedule.holds(at)),
        }
    }
}

/// The number that `text` is, but for a unit or a per cent sign behind it.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    text[..end].parse().ok().filter(|value: &f64| value.is_finite())
}

impl Condition {
    /// Calls `f` for every test, in order.
    pub(super) fn tests<'c>(&'c self, f: &mut dyn FnMut(&'c Test)) {
        match self {
            Self::All(inner) | Self::Any(inner) => inner.iter().for_each(|condition| condition.tests(f)),
            Self::Not(inner) => inner.tests(f),
            Self::Test(test) => f(test),
        }
    }

    /// The same, to change them.
    pub(super) fn tests_mut(&mut self, f: &mut dyn FnMut(&mut Test)) {
        match self {
            Self::All(inner) | Self::Any(inner) => {
                inner.iter_mut().for_each(|condition| condition.tests_mut(f));
            }
            Self::Not(inner) => inner.tests_mut(f),
            Self::Test(test) => f(test),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_a_unit() {
        assert_eq!(number(" 97.2 %"), Some(97.2));
        assert_eq!(number("-3"), Some(-3.0));
        assert_eq!(number("many"), None);
    }
}
