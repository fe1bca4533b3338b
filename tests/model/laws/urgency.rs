//! What is urgent overtakes what is not.

use std::collections::BTreeMap;

use super::super::record::{Event, MINUTE, Millis, Name, Of, Post, QUIET, Record};
use super::{Breach, breach, settled};

/// One of so many posts may be of something that pages nobody though a page waits, and one of so many beside
/// critical pages. A few more may go before that shows.
const SHARE: usize = 4;
const SHARE_CRITICAL: usize = 16;
const FIRST_SHARES: usize = 8;

/// An event that could go, how urgent it is by itself or by what stands behind it in its incident, and from when on; it
/// has left at `first`.
struct Ready<'a> {
    event: &'a Event,
    rank: u8,
    from: Millis,
    first: Millis,
}

/// A post of an event, with its urgency: that of the most urgent event of its incident that may have been there.
struct Leaving<'a> {
    post: &'a Post,
    event: &'a Event,
    rank: u8,
}

/// Nothing goes while something of the same account that is more urgent could, but for a share of what pages nobody, and
/// for the few that leave before the gateway looks at what is new.
pub fn the_urgent_goes_first(record: &Record, found: &mut Vec<Breach>) {
    let (waiting, leaving) = (ready(record), leaving(record));
    // A close must not wait for as long as there is a page.
    let has_its_share = |ready: &Ready<'_>, post: &Post| {
        let (mut all, mut quiet) = (0, 0);
        for other in record.posts.iter().zip(&leaving) {
            let is_beside =
                other.0.account == post.account && (ready.from..=post.sent).contains(&other.0.sent);
            all += usize::from(is_beside);
            quiet += usize::from(is_beside && other.1.as_ref().is_some_and(|other| other.rank == QUIET));
        }
        quiet <= FIRST_SHARES + all / if ready.rank == 0 { SHARE_CRITICAL } else { SHARE }
    };
    let mut overtaken: BTreeMap<Name, usize> = BTreeMap::new();
    for Leaving { post, event, rank } in leaving.iter().flatten() {
        let by = |ready: &&Ready<'_>| {
            (ready.from..ready.first).contains(&post.sent)
                && ready.rank < *rank
                && could_go(record, ready, post)
                && !(event.rank() == QUIET && has_its_share(ready, post))
        };
        for ready in waiting.iter().filter(by) {
            let times = overtaken.entry(ready.event.name()).or_default();
            *times += 1;
            if *times == record.bounds.leeway + 1 {
                let what = format!(
                    "m{} of rank {rank} leaves at {} while m{} of rank {} waits since {}",
                    event.serial, post.sent, ready.event.serial, ready.rank, ready.from
                );
                found.push(breach("what is urgent goes first", what));
            }
        }
    }
}

/// How many events left before less urgent ones that had come earlier, so that a history in which none had to is seen.
pub fn overtakes(record: &Record) -> usize {
    let (posts, events) = (record.posts_by_event(), record.events_by_name());
    let first: Vec<(&Event, Millis)> =
        posts.iter().filter_map(|(name, posts)| Some((*events.get(name)?, posts[0].sent))).collect();
    let overtook = |(event, sent): &&(&Event, Millis)| {
        let behind = |(other, late): &(&Event, Millis)| {
            other.rank() > event.rank() && other.kept.is_some_and(|kept| kept < event.begun) && late > sent
        };
        first.iter().any(behind)
    };
    first.iter().filter(overtook).count()
}

/// What waited until it left, though nothing stood before it in its incident.
fn ready(record: &Record) -> Vec<Ready<'_>> {
    let (posts, lanes, slack) = (record.posts_by_event(), record.lanes(), record.bounds.slack);
    let of = |event: &Event| posts.get(&event.name()).map_or(&[][..], Vec::as_slice);
    // The close of another team's incident stands in the lane as well, if an open of that had gone to this team. What
    // came at the same time may stand before it or behind it.
    let followers = record.followers();
    let heard = |event: &Event| {
        let (lane, kept) = (event.incident.map(|incident| (event.team, Some(incident))), event.kept);
        let same = move |other: &&Event| {
            lane == Some((other.team, other.incident)) && kept.is_some_and(|kept| other.begun <= kept)
        };
        followers.iter().filter(same)
    };
    let there = |event: &Event| event.kept.map(|kept| kept + event.policy.hold + slack);
    let mut found = Vec::new();
    for event in &record.events {
        let (Some(mut from), [first, ..]) = (there(event), of(event)) else { continue };
        let alone = [event];
        let lane = event.incident.and_then(|incident| lanes.get(&(event.team, incident)));
        let lane = lane.map_or(&alone[..], Vec::as_slice);
        let Some(place) = lane.iter().position(|other| other.name() == event.name()) else { continue };
        let (before, behind) = lane.split_at(place);
        for older in before.iter().copied().chain(heard(event)).filter(|older| !of(older).is_empty()) {
            from = from.max(settled(of(older)).map_or(Millis::MAX, |at| at.saturating_add(slack)));
        }
        // It is as urgent as the most urgent of those behind that are there.
        let mut most = QUIET - 1;
        for other in behind.iter().filter(|other| !of(other).is_empty()) {
            let from = from.max(there(other).unwrap_or(Millis::MAX));
            if other.rank() < most && from < first.sent {
                most = other.rank();
                found.push(Ready { event, rank: most, from, first: first.sent });
            }
        }
    }
    found
}

/// The posts of events, in the order of all posts.
fn leaving<'a>(record: &'a Record) -> Vec<Option<Leaving<'a>>> {
    let (posts, lanes, events) = (record.posts_by_event(), record.lanes(), record.events_by_name());
    let slack = record.bounds.slack;
    let of = |event: &Event| posts.get(&event.name()).map_or(&[][..], Vec::as_slice);
    let leaving = |post: &'a Post| -> Option<Leaving<'a>> {
        let &Post { of: Of::Event { serial, team }, sent, .. } = post else { return None };
        let event = *events.get(&(serial, team))?;
        let lane = event.incident.and_then(|incident| lanes.get(&(event.team, incident)));
        let behind = lane
            .into_iter()
            .flatten()
            .filter(|other| other.begun <= sent && settled(of(other)).is_none_or(|at| at + slack > sent));
        let rank = behind.map(|other| other.rank()).min().unwrap_or(QUIET).min(event.rank());
        Some(Leaving { post, event, rank })
    };
    record.posts.iter().map(leaving).collect()
}

/// Whether nothing but the order could keep an event from going in the place of `post`.
fn could_go(record: &Record, ready: &Ready<'_>, post: &Post) -> bool {
    let (team, at, slack) = (ready.event.team, post.sent, record.bounds.slack);
    let Some(aim) = record.aims.iter().rev().find(|aim| aim.at <= at) else { return false };
    let Some(life) = record.lives.get(post.life) else { return false };
    let since = life.from.max(aim.at);
    if aim.accounts[team] != Some(post.account) || at - since < slack {
        return false;
    }
    if record.had_trouble(ready.from.max(life.from) - slack, at) {
        return false;
    }
    let own = |other: &&Post| {
        other.life == post.life
            && match other.of {
                Of::Event { team: of, .. } => of == team,
                Of::Digest { .. } | Of::Question => other.by == team,
            }
    };
    let away = record.posts.iter().filter(own).filter(|post| post.is_away(at)).count();
    // What SIGNL4 has refused leaves the last places for others, so that it does not use up what it bears.
    let refused = record.posts.iter().filter(own).any(|post| {
        post.answer == 400 && post.ended.is_some_and(|ended| (at - MINUTE - slack..=at).contains(&ended))
    });
    away < life.concurrency && !refused && is_well(record, team, since, at)
}

/// Whether a team's own way is open beyond doubt: it got an event through since the last trouble.
fn is_well(record: &Record, team: usize, since: Millis, at: Millis) -> bool {
    let by = || record.posts.iter().filter(|post| post.by == team && post.sent >= since);
    let ended = |post: &Post| post.ended.filter(|&ended| ended <= at);
    let failed = by().filter(|post| !matches!(post.answer, 201 | 400)).filter_map(ended).max();
    let unrest = record.unrest.iter().map(|&(_, to)| to).filter(|&to| to <= at).max();
    let trouble = failed.max(unrest).unwrap_or(since).max(since);
    by().any(|post| {
        post.answer == 201
            && post.sent > trouble
            && ended(post).is_some_and(|end| end + record.bounds.slack < at)
    })
}
