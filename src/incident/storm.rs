//! When a source or a team floods the people on duty: pages are counted over a minute, and from a number on
//! the next ones belong into a digest until it is calm again.
//!
//! A source is what `X-S4-SourceSystem` names. One that is in a storm of its own does not count for its
//! team, so that it takes the pages of no other source with it. What was counted and which
//! storms were on before the process began is the keeper's to remember.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::config::Storm;

/// The time over which pages are counted.
pub const STORM_WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// The same in milliseconds.
const WINDOW: i64 = STORM_WINDOW.as_secs() * 1_000;

/// Most pages that are counted, whatever the config says: each is remembered for a minute.
pub const MOST_COUNTED: usize = 10_000;

/// Sources of a team that are counted one by one. A sender that names a new one each time counts for its
/// team.
const MOST_SOURCES: usize = 256;

/// What floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Kind {
    /// Pages of a source or of a whole team.
    Pages,
    /// Texts of one guessed key.
    Texts,
}

/// What a storm is of, within its team.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flood {
    /// What floods.
    pub kind: Kind,
    /// Whether strangers do. Their pages count for no storm of known senders.
    pub stranger: bool,
    /// The source, or the base of the guessed key; none if the whole team is flooded.
    pub source: Option<String>,
}

/// What is counted, and the storms that are on.
#[derive(Debug, Default)]
pub struct Storms {
    /// By the team and whether its pages are strangers'.
    teams: HashMap<(String, bool), Team>,
}

#[derive(Debug, Default)]
struct Team {
    /// The last pages, each with its source, but for those of sources that are in a storm.
    recent: VecDeque<(i64, String)>,
    sources: HashMap<String, VecDeque<i64>>,
    /// The storms that are on, by what they are of.
    raging: HashMap<(Kind, Option<String>), u64>,
}

/// A page that belongs into a storm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What the storm is of.
    pub flood: Flood,
    /// The number of the storm; none if it begins with this page.
    pub storm: Option<u64>,
    /// Whether there are too many pages still.
    pub excess: bool,
}

impl Storms {
    /// Goes on with a storm, or begins with the one of a [`Ticket`].
    pub fn rage(&mut self, team: &str, flood: &Flood, storm: u64) {
        let team = self.teams.entry((team.to_owned(), flood.stranger)).or_default();
        if let (Kind::Pages, Some(source)) = (flood.kind, &flood.source) {
            team.recent.retain(|(_, of)| of != source);
        }
        team.raging.insert((flood.kind, flood.source.clone()), storm);
    }

    /// The storm of this that is on.
    pub fn raging(&self, team: &str, flood: &Flood) -> Option<u64> {
        let team = self.teams.get(&(team.to_owned(), flood.stranger))?;
        team.raging.get(&(flood.kind, flood.source.clone())).copied()
    }

    /// The storm is over.
    pub fn calm(&mut self, storm: u64) {
        for team in self.teams.values_mut() {
            team.raging.retain(|_, raging| *raging != storm);
        }
    }

    /// Counts a page of the time before the process began, after those that came before it and the storms that are
    /// on. `class` is the team and whether it is a stranger's.
    pub fn recall(&mut self, class: (&str, bool), source: &str, at: Timestamp) {
        let at = at.as_millisecond();
        let team = self.teams.entry((class.0.to_owned(), class.1)).or_default();
        team.count_source(source, MOST_COUNTED, at);
        if !team.raging.contains_key(&(Kind::Pages, Some(source.to_owned()))) {
            team.recent.push_back((at, source.to_owned()));
        }
    }

    /// Counts an event that would page a team, and tells the storm that it belongs into, if it may be folded
    /// at all. `class` is the team and whether it is a stranger's; `allowance` is how many events the account lets go in
    /// 15 seconds.
    pub fn count(
        &mut self,
        class: (&str, bool),
        source: &str,
        may_fold: bool,
        (storm, allowance): (&Storm, u32),
        now: Timestamp,
    ) -> Option<Ticket> {
        let now = now.as_millisecond();
        let most = storm.threshold(allowance).min(MOST_COUNTED);
        let stranger = class.1;
        let team = self.teams.entry((class.0.to_owned(), stranger)).or_default();
        let excess = team.count_source(source, most, now);
        let key = (Kind::Pages, Some(source.to_owned()));
        let ticket = |source, storm, excess| {
            let flood = Flood { kind: Kind::Pages, stranger, source };
            Ticket { flood, storm, excess }
        };
        let known = team.raging.get(&key).copied();
        if known.is_some() || excess && may_fold {
            return may_fold.then(|| ticket(key.1, known, excess));
        }
        team.recent.push_back((now, source.to_owned()));
        let excess = exceeds(&mut team.recent, most, |(at, _)| now - at < WINDOW);
        let known = team.raging.get(&(Kind::Pages, None)).copied();
        (may_fold && (known.is_some() || excess)).then(|| ticket(None, known, excess))
    }
}

impl Team {
    /// Counts a page of `source`, and whether there are too many.
    fn count_source(&mut self, source: &str, most: usize, now: i64) -> bool {
        if !self.sources.contains_key(source) {
            if self.sources.len() >= MOST_SOURCES {
                self.sources.retain(|_, times| times.back().is_some_and(|at| now - at < WINDOW));
            }
            if self.sources.len() >= MOST_SOURCES {
                return false;
            }
            self.sources.insert(source.to_owned(), VecDeque::new());
        }
        let times = self.sources.get_mut(source).expect("it was just made if it was not there");
        times.push_back(now);
        exceeds(times, most, |at| now - at < WINDOW)
    }
}

/// Whether more than `most` of `times` are recent. Only as many are kept as that takes.
fn exceeds<T>(times: &mut VecDeque<T>, most: usize, is_recent: impl Fn(&T) -> bool) -> bool {
    while times.len() > most + 1 {
        times.pop_front();
    }
    times.len() > most && times.front().is_some_and(is_recent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    const SOC: (&str, bool) = ("soc", false);

    fn flood(source: Option<&str>) -> Flood {
        Flood { kind: Kind::Pages, stranger: false, source: source.map(str::to_owned) }
    }

    fn storm() -> Storm {
        Storm { after: Some(3), ..Storm::default() }
    }

    /// Counts so many pages of `source`, one a second from `start` on, and tells what the last belongs to.
    fn pages(storms: &mut Storms, source: &str, start: i64, count: i64) -> Option<Ticket> {
        let mut last = None;
        for second in start..start + count {
            last = storms.count(SOC, source, true, (&storm(), 10), at(second));
        }
        last
    }

    #[test]
    fn as_many_pages_as_are_no_storm_page_and_the_next_begins_one() {
        let mut storms = Storms::default();
        assert_eq!(pages(&mut storms, "a", 0, 3), None);
        let begins = Ticket { flood: flood(Some("a")), storm: None, excess: true };
        assert_eq!(pages(&mut storms, "a", 3, 1), Some(begins));
        storms.rage("soc", &flood(Some("a")), 7);
        let goes_on = Ticket { flood: flood(Some("a")), storm: Some(7), excess: true };
        assert_eq!(pages(&mut storms, "a", 4, 1), Some(goes_on.clone()));
        // Long after, it is still on, but no longer too much.
        assert_eq!(pages(&mut storms, "a", 200, 1), Some(Ticket { excess: false, ..goes_on }));
        storms.calm(7);
        assert_eq!(pages(&mut storms, "a", 300, 1), None);
    }

    #[test]
    fn a_storm_of_one_source_takes_no_page_of_another() {
        let mut storms = Storms::default();
        pages(&mut storms, "a", 0, 4);
        storms.rage("soc", &flood(Some("a")), 7);
        pages(&mut storms, "a", 4, 100);
        assert_eq!(pages(&mut storms, "b", 50, 3), None);
        assert_eq!(
            storms.count(("ops", false), "a", true, (&storm(), 10), at(53)),
            None,
            "nor of another team"
        );
    }

    #[test]
    fn many_sources_of_which_none_is_too_much_are_a_storm_of_the_team() {
        let mut storms = Storms::default();
        for (second, source) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(pages(&mut storms, source, second as i64, 1), None);
        }
        let begins = Ticket { flood: flood(None), storm: None, excess: true };
        assert_eq!(pages(&mut storms, "d", 3, 1), Some(begins));
        storms.rage("soc", &flood(None), 8);
        let goes_on = Ticket { flood: flood(None), storm: Some(8), excess: true };
        assert_eq!(pages(&mut storms, "e", 4, 1), Some(goes_on));
    }

    #[test]
    fn pages_that_are_spread_out_are_no_storm() {
        let mut storms = Storms::default();
        for n in 0..100 {
            assert_eq!(pages(&mut storms, "a", n * 20, 1), None, "page {n}");
        }
    }

    #[test]
    fn what_may_not_be_folded_counts_and_pages() {
        let mut storms = Storms::default();
        for second in 0..10 {
            assert_eq!(storms.count(SOC, "a", false, (&storm(), 10), at(second)), None);
        }
        assert!(pages(&mut storms, "a", 10, 1).is_some());
    }

    #[test]
    fn what_was_counted_before_a_restart_counts_after_it() {
        let mut storms = Storms::default();
        storms.rage("soc", &flood(Some("b")), 7);
        for second in 0..3 {
            storms.recall(SOC, "a", at(second));
        }
        for second in 3..50 {
            storms.recall(SOC, "b", at(second));
        }
        let begins = Ticket { flood: flood(Some("a")), storm: None, excess: true };
        assert_eq!(pages(&mut storms, "a", 50, 1), Some(begins));
        let goes_on = Ticket { flood: flood(Some("b")), storm: Some(7), excess: true };
        assert_eq!(pages(&mut storms, "b", 51, 1), Some(goes_on));
        assert_eq!(pages(&mut storms, "a", 200, 3), None, "for a minute");
        assert_eq!(pages(&mut storms, "c", 300, 1), None);
    }

    #[test]
    fn a_sender_that_names_ever_new_sources_counts_for_its_team_and_fills_no_memory() {
        let mut storms = Storms::default();
        storms.rage("soc", &flood(None), 1);
        for n in 0..5_000 {
            storms.count(SOC, &format!("source {n}"), true, (&storm(), 10), at(0));
        }
        let team = &storms.teams[&("soc".to_owned(), false)];
        assert!(team.sources.len() <= MOST_SOURCES && team.recent.len() <= 4);
    }

    #[test]
    fn strangers_have_storms_of_their_own_and_count_for_none_of_known_senders() {
        let mut storms = Storms::default();
        for second in 0..50 {
            let ticket = storms.count(("soc", true), "a", true, (&storm(), 10), at(second));
            assert!(ticket.is_none_or(|ticket| ticket.flood.stranger));
        }
        assert_eq!(pages(&mut storms, "a", 50, 3), None, "the same source, known");
        assert!(pages(&mut storms, "a", 53, 1).is_some_and(|ticket| !ticket.flood.stranger));
    }
}
