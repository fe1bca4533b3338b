//! The notice that events failed for good: at most one in a quarter of an hour, with how many and why. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::event::{Event, Repeat, Severity};

/// The external id of the notice.
pub(super) const EXTERNAL_ID: &str = "smtp2signl4:dead-letter";

/// Least time between two notices.
pub(super) const INTERVAL: SignedDuration = SignedDuration::from_mins(15);

/// Dead letters that a notice names; the others are counted.
pub(super) const NAMED: usize = 5;

/// Dead letters that were not told yet.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    count: u64,
    lines: Vec<String>,
    last: Option<Timestamp>,
}

impl DeadLetters {
    /// Whether a further one would be named.
    pub(super) fn wants_more(&self) -> bool {
        self.lines.len() < NAMED
    }

    /// Counts one more, with a line for it while there is room.
    pub(super) fn add(&mut self, line: Option<String>) {
        self.count += 1;
        if self.wants_more() {
            self.lines.extend(line);
        }
    }

    /// The notice for `team`, if it is time for one.
    pub(super) fn due(&self, team: &str, now: Timestamp) -> Option<Event> {
        let early = self.last.is_some_and(|last| now.duration_since(last).abs() < INTERVAL);
        if self.count == 0 || early {
            return None;
        }
        let many = if self.count == 1 { "1 event".to_owned() } else { format!("{} events", self.count) };
        let mut message = format!("SIGNL4 will not get {many} unless somebody acts.\n");
        for line in &self.lines {
            message.push_str(&format!("\n{line}"));
        }
        let more = self.count.saturating_sub(self.lines.len() as u64);
        if more > 0 {
            message.push_str(&format!("\nand {more} more"));
        }
        message.push_str(
            "\n\nSee them: smtp2signl4 queue list --state failed\nSend one to another team: smtp2signl4 queue retry ID --to TEAM",
        );
        Some(Event {
            team: team.to_owned(),
            title: format!("{many} failed for good"),
            message,
            external_id: Some(EXTERNAL_ID.to_owned()),
            severity: Some(Severity::High),
            // It is rare enough as it is, and tells of others than the one before: it is never only counted.
            repeat: Some(Repeat::Update),
            ..Event::default()
        })
    }

    /// The notice is in the spool.
    pub(super) fn told(&mut self, now: Timestamp) {
        *self = Self { last: Some(now), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn the_first_is_told_at_once_and_the_next_ones_together_after_a_quarter_of_an_hour() {
        let mut letters = DeadLetters::default();
        assert_eq!(letters.due("ops", at(0)), None);
        letters.add(Some("soc: 400".to_owned()));
        let notice = letters.due("ops", at(0)).unwrap();
        assert_eq!((notice.team.as_str(), notice.title.as_str()), ("ops", "1 event failed for good"));
        letters.told(at(0));
        for n in 0..7 {
            letters.add(Some(format!("soc: {n}")));
        }
        assert_eq!(letters.due("ops", at(14)), None);
        let notice = letters.due("ops", at(15)).unwrap();
        assert_eq!(notice.title, "7 events failed for good");
        assert!(notice.message.contains("\nsoc: 4\nand 2 more\n\nSee them:"), "{}", notice.message);
        letters.told(at(15));
        assert_eq!(letters.due("ops", at(60)), None);
    }
}
