//! When posts were made within a length of time.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Parts of a window's length that are told apart. A post counts at most so much longer than it must.
const GRAINS: i32 = 64;

/// When so many were posted within a length of time, coarsely: memory does not grow with the limit.
#[derive(Debug, Clone)]
pub(super) struct Log {
    length: SignedDuration,
    spans: VecDeque<Span>,
    total: u64,
}

/// Posts of about the same time, all counted at the time of the last.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: Timestamp,
    last: Timestamp,
    count: u64,
}

impl Log {
    /// A log of the last `length`, and a little more: the clock on the other side may count whole seconds.
    pub(super) fn new(length: SignedDuration) -> Self {
        let guard = (length / 15).min(SignedDuration::from_secs(1));
        Self { length: length + guard, spans: VecDeque::new(), total: 0 }
    }

    pub(super) fn add(&mut self, count: u64, at: Timestamp) {
        self.total += count;
        match self.spans.back_mut() {
            Some(span) if at < span.first + self.length / GRAINS => {
                span.last = span.last.max(at);
                span.count += count;
            }
            _ => self.spans.push_back(Span { first: at, last: at, count }),
        }
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some(span) = self.spans.front()
            && now.duration_since(span.last) >= self.length
        {
            self.total -= span.count;
            self.spans.pop_front();
        }
    }

    /// What lies in the future, because the clock was set back, counts as now.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        for span in &mut self.spans {
            (span.first, span.last) = (span.first.min(now), span.last.min(now));
        }
    }

    /// How many at or after `start`, or of about that time.
    pub(super) fn since(&self, start: Timestamp) -> u64 {
        self.spans.iter().rev().take_while(|span| span.last >= start).map(|span| span.count).sum()
    }

    /// When so many are left that `most` is not reached. None if that is so already.
    pub(super) fn below(&self, most: u64) -> Option<Timestamp> {
        let mut left = self.total;
        let mut at = None;
        for span in &self.spans {
            if left < most {
                break;
            }
            left -= span.count;
            at = Some(span.last + self.length);
        }
        at
    }

    /// How many there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Whether it takes up no more memory than it may.
    #[cfg(test)]
    pub(super) fn is_short(&self) -> bool {
        self.spans.len() <= GRAINS as usize + 2
    }
}
