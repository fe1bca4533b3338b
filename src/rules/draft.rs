//! What the rules have set so far of one event, and which rule set it.

use super::field::Key;
use super::file::Target;
use super::trace::Dropped;

/// What the rules set, before the laws for what they left out.
#[derive(Debug, Default)]
pub(super) struct Draft {
    values: [Option<Given>; Key::ALL.len()],
    pub(super) tiles: Vec<(String, Given)>,
    pub(super) teams: Option<(Vec<String>, By)>,
    pub(super) dropped: Option<Dropped>,
}

/// A value and the rule that set it.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) by: By,
}

/// A rule by its place; greater is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct By {
    pub(super) file: usize,
    pub(super) rule: usize,
}

impl Draft {
    pub(super) fn given(&self, key: Key) -> Option<&Given> {
        self.values[key as usize].as_ref()
    }

    pub(super) fn text(&self, key: Key) -> Option<&str> {
        self.given(key).map(|given| given.text.as_str())
    }

    pub(super) fn tile(&self, name: &str) -> Option<&str> {
        self.tiles.iter().find(|(n, _)| n == name).map(|(_, given)| given.text.as_str())
    }

    /// Sets `target`; returns what it was.
    pub(super) fn set(&mut self, target: &Target, text: String, by: By) -> Option<String> {
        let given = Given { text, by };
        match target {
            Target::Key(key) => self.values[*key as usize].replace(given).map(|before| before.text),
            Target::Tile(name) => match self.tiles.iter_mut().find(|(n, _)| n == name) {
                Some((_, place)) => Some(std::mem::replace(place, given).text),
                None => {
                    self.tiles.push((name.clone(), given));
                    None
                }
            },
        }
    }
}
