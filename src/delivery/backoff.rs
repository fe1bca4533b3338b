//! How long to wait before a failed post is tried again. Pure: chance comes in.

use fastrand::Rng;
use jiff::SignedDuration;

/// The longest wait. An outage of SIGNL4 that is over is noticed at most this much later.
pub const CAP: SignedDuration = SignedDuration::from_secs(300);

/// The middle of the first wait; each further one is twice as long.
const FIRST: SignedDuration = SignedDuration::from_millis(1_500);

/// The wait after `failures` posts in a row have failed: 1 to 2 s after the first, twice that after each
/// further one, never above [`CAP`]. It is spread by a third to either side, so that many events that
/// failed together do not come back together.
pub fn after(failures: u32, rng: &mut Rng) -> SignedDuration {
    let middle = FIRST.as_millis() << failures.saturating_sub(1).min(20);
    let cap = CAP.as_millis();
    let low = (middle * 2 / 3).min(cap * 2 / 3);
    let high = (middle * 4 / 3).min(cap);
    let millis = i64::try_from(low).unwrap_or(i64::MAX)..=i64::try_from(high).unwrap_or(i64::MAX);
    SignedDuration::from_millis(rng.i64(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_is_one_to_two_seconds_and_none_is_above_the_cap() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..1_000 {
            let first = after(1, &mut rng);
            assert!((1_000..=2_000).contains(&first.as_millis()), "{first}");
            for failures in [0, 9, 10, 50, u32::MAX] {
                assert!(after(failures, &mut rng) <= CAP);
            }
        }
    }

    #[test]
    fn each_wait_is_longer_than_the_one_before_until_the_cap_and_stays_spread_there() {
        let mut rng = Rng::with_seed(2);
        for failures in 1..8 {
            let longest = (0..200).map(|_| after(failures, &mut rng)).max();
            assert!((0..200).map(|_| after(failures + 1, &mut rng)).max() > longest);
        }
        let capped: std::collections::BTreeSet<_> = (0..200).map(|_| after(30, &mut rng)).collect();
        assert!(capped.len() > 100 && *capped.first().unwrap() >= SignedDuration::from_secs(200));
    }
}
