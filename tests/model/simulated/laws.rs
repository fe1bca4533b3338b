//! The laws that hold for every history, judged when it is over. Each says what it found in words.
//!
//! Left out: which mails page and which are counted, which [`incidents`](super::incidents) tells.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Event, Life, Line, MINUTE, Millis, Of, Post, QUIET, Record, Status, Storm};

/// How long an event may be on its way from its commit to where it can be posted.
const SLACK: Millis = 1_500;

/// A law that was broken.
#[derive(Debug, Clone)]
pub struct Breach {
    pub law: &'static str,
    pub what: String,
}

pub fn breach(law: &'static str, what: String) -> Breach {
    Breach { law, what }
}

/// All laws of what was posted.
pub fn judge(record: &Record) -> Vec<Breach> {
    let mut found = Vec::new();
    nothing_is_missing(record, &mut found);
    a_double_follows_a_lost_answer(record, &mut found);
    an_incident_keeps_its_order(record, &mut found);
    no_account_is_blocked(record, &mut found);
    the_urgent_goes_first(record, &mut found);
    a_storm_is_told(record, &mut found);
    found
}

/// What is acknowledged is there, what is delivered was taken, what is dead was refused.
fn nothing_is_missing(record: &Record, found: &mut Vec<Breach>) {
    let posts = record.posts_by_event();
    let mut lines: BTreeMap<(u32, usize), Vec<&Line>> = BTreeMap::new();
    for line in &record.lines {
        if let Some(serial) = line.serial {
            lines.entry((serial, line.team)).or_default().push(line);
        }
    }
    for event in &record.events {
        let name = (event.serial, event.team);
        let lines = lines.get(&name).map_or(&[][..], Vec::as_slice);
        let posts = posts.get(&name).map_or(&[][..], Vec::as_slice);
        let taken = posts.iter().any(|post| post.is_taken());
        let say = |what: &str| breach("nothing acknowledged is missing", format!("m{} {what}", event.serial));
        match (event.kept, lines) {
            (Some(_), []) => found.push(say("is in no listing")),
            (None, []) if taken => found.push(say("was posted and is not kept")),
            (_, []) => {}
            (_, [line]) => match line.state.as_str() {
                "delivered" if !taken => found.push(say("is delivered and was never taken")),
                "failed" if !posts.iter().any(|post| post.verdict == 400) => {
                    found.push(say("failed and was never refused"));
                }
                "queued" => found.push(say("waits still, long after all is well")),
                "dropped" | "muted" => found.push(say("is neither sent nor kept by anybody's wish")),
                "counted" | "folded" if taken => found.push(say("was posted and is not said to be")),
                _ => {}
            },
            (_, [..]) => found.push(say("is there more than once")),
        }
    }
}

/// Nothing is posted again in one life whose post was answered.
fn a_double_follows_a_lost_answer(record: &Record, found: &mut Vec<Breach>) {
    for ((serial, _), posts) in record.posts_by_event() {
        for pair in posts.windows(2) {
            let settled = matches!(pair[0].answer, 201 | 400);
            if settled && pair[0].life == pair[1].life {
                let what = format!("m{serial} was answered {} and is posted again", pair[0].answer);
                found.push(breach("nothing is posted again without need", what));
            }
            if pair[0].ended.is_none_or(|ended| ended > pair[1].sent) && pair[0].life == pair[1].life {
                let what = format!("m{serial} is posted while it is posted");
                found.push(breach("nothing is posted again without need", what));
            }
        }
    }
}

/// When the gateway learnt what became of an event, if it did.
fn settled(posts: &[&Post]) -> Option<Millis> {
    posts.iter().filter(|post| matches!(post.answer, 201 | 400)).filter_map(|post| post.ended).min()
}

/// No event leaves before an older one of its incident has come to its end, nor after a newer one has left.
fn an_incident_keeps_its_order(record: &Record, found: &mut Vec<Breach>) {
    let posts = record.posts_by_event();
    for lane in record.lanes().values() {
        let sent: Vec<_> = lane
            .iter()
            .filter_map(|event| Some((event.serial, posts.get(&(event.serial, event.team))?)))
            .collect();
        for pair in sent.windows(2) {
            let ((older, before), (newer, after)) = (pair[0], pair[1]);
            let first = after[0].sent;
            if settled(before).is_none_or(|at| at > first) {
                let what = format!("m{newer} left at {first} before the end of m{older} was known");
                found.push(breach("order per incident", what));
            }
            if let Some(late) = before.iter().find(|post| post.sent > first) {
                let what = format!("m{older} left at {} after m{newer} had at {first}", late.sent);
                found.push(breach("order per incident", what));
            }
        }
    }
}

/// SIGNL4 never blocks an account for what was posted, and counts no window too full. Which requests were wrong
/// a gateway does not know if their answers are lost, nor after a restart, so too many of those are not judged.
fn no_account_is_blocked(record: &Record, found: &mut Vec<Breach>) {
    const WRONG: (usize, Millis) = (10, 60_000);
    let law = "the budget is never exceeded";
    let accounts: BTreeSet<usize> = record.posts.iter().map(|post| post.account).collect();
    for account in accounts {
        let of = || record.posts.iter().filter(|post| post.account == account);
        let times = |which: &dyn Fn(&Post) -> bool| {
            let mut times: Vec<_> = of().filter(|post| which(post)).filter_map(|post| post.arrived).collect();
            times.sort_unstable();
            times
        };
        let is_wrong = |post: &Post| matches!(post.verdict, 400 | 404) || post.answer == 403;
        let is_known = |post: &Post| matches!(post.answer, 400 | 403 | 404);
        for blocked in of().filter(|post| post.blocked) {
            let at = blocked.arrived.unwrap_or(blocked.sent);
            let hidden = times(&|post| is_wrong(post) && !(is_known(post) && post.life == blocked.life));
            if !hidden.iter().any(|hidden| (0..2 * WRONG.1).contains(&(at - hidden))) {
                found.push(breach(law, format!("account {account} is blocked at {at}")));
            }
        }
        for life in 0..record.lives.len() {
            let wrong = times(&|post| is_wrong(post) && is_known(post) && post.life == life);
            too_full(account, &wrong, WRONG, found);
        }
        let all = times(&|_| true);
        record.windows.iter().for_each(|&window| too_full(account, &all, window, found));
    }
}

fn too_full(account: usize, times: &[Millis], (limit, length): (usize, Millis), found: &mut Vec<Breach>) {
    if let Some(span) = times.windows(limit + 1).find(|span| span[limit] - span[0] < length) {
        let what = format!("account {account} gets more than {limit} in {length} ms from {}", span[0]);
        found.push(breach("the budget is never exceeded", what));
    }
}

/// An event that could go, and from when on; it has left at `first`.
struct Ready<'a> {
    event: &'a Event,
    from: Millis,
    first: Millis,
}

/// One of so many posts may be of something that pages nobody though a page waits, and one of so many beside
/// critical pages. A few more may go before that shows.
const SHARE: usize = 4;
const SHARE_CRITICAL: usize = 16;
const FIRST_SHARES: usize = 8;

/// Nothing goes while something of the same account that is more urgent could, but for a share of what pages nobody.
fn the_urgent_goes_first(record: &Record, found: &mut Vec<Breach>) {
    let posts = record.posts_by_event();
    let lanes = record.lanes();
    let lane_of = |event: &Event| event.incident.and_then(|incident| lanes.get(&(event.team, incident)));
    let of = |event: &Event| posts.get(&(event.serial, event.team)).map_or(&[][..], Vec::as_slice);
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
    let mut waited = Vec::new();
    for event in record.events.iter().filter(|event| event.rank() < 4) {
        let (Some(kept), [first, ..]) = (event.kept, of(event)) else { continue };
        let mut from = kept + event.policy.hold + SLACK;
        let before = lane_of(event).into_iter().flatten().copied();
        let before = before.take_while(|older| older.serial < event.serial).chain(heard(event));
        for older in before {
            if !of(older).is_empty() {
                from = from.max(settled(of(older)).map_or(Millis::MAX, |at| at.saturating_add(SLACK)));
            }
        }
        if from < first.sent {
            waited.push(Ready { event, from, first: first.sent });
        }
    }
    let by_name: BTreeMap<_, _> =
        record.events.iter().map(|event| ((event.serial, event.team), event)).collect();
    // What stands behind an event in its incident makes it as urgent as that.
    let urgency = |post: &Post| {
        let Of::Event { serial, team } = post.of else { return None };
        let event = by_name.get(&(serial, team))?;
        let behind = lane_of(event).into_iter().flatten().filter(|other| {
            other.begun <= post.sent && settled(of(other)).is_none_or(|at| at + SLACK > post.sent)
        });
        Some((event, behind.map(|other| other.rank()).min().unwrap_or(QUIET).min(event.rank())))
    };
    let urgencies: Vec<_> = record.posts.iter().map(urgency).collect();
    // A close must not wait for as long as there is a page.
    let has_its_share = |ready: &Ready<'_>, post: &Post| {
        let (mut all, mut quiet) = (0, 0);
        for (other, urgency) in record.posts.iter().zip(&urgencies) {
            let is_beside = other.account == post.account && (ready.from..=post.sent).contains(&other.sent);
            all += usize::from(is_beside);
            quiet += usize::from(is_beside && urgency.is_some_and(|(_, urgency)| urgency == QUIET));
        }
        quiet <= FIRST_SHARES + all / if ready.event.rank() == 0 { SHARE_CRITICAL } else { SHARE }
    };
    for (post, told) in record.posts.iter().zip(&urgencies) {
        let Some((event, urgency)) = *told else { continue };
        let overtaken = waited.iter().find(|ready| {
            (ready.from..ready.first).contains(&post.sent)
                && ready.event.rank() < urgency
                && could_go(record, ready, post)
                && !(event.rank() == QUIET && has_its_share(ready, post))
        });
        if let Some(ready) = overtaken {
            let what = format!(
                "m{} of rank {urgency} leaves at {} while m{} of rank {} waits since {}",
                event.serial,
                post.sent,
                ready.event.serial,
                ready.event.rank(),
                ready.from
            );
            found.push(breach("critical before informational", what));
        }
    }
}

/// Whether nothing but the order could keep an event from going in the place of `post`.
fn could_go(record: &Record, ready: &Ready<'_>, post: &Post) -> bool {
    let (team, at) = (ready.event.team, post.sent);
    let Some(aim) = record.aims.iter().rev().find(|aim| aim.at <= at) else { return false };
    let Some(life) = record.lives.get(post.life) else { return false };
    let since = life.from.max(aim.at);
    if aim.accounts[team] != Some(post.account) || at - since < SLACK {
        return false;
    }
    if record.had_trouble(ready.from.max(life.from) - SLACK, at) {
        return false;
    }
    let own = |post: &&Post| match post.of {
        Of::Event { team: of, .. } => of == team,
        Of::Digest { .. } | Of::Question => post.by == team,
    };
    let away = record.posts.iter().filter(own).filter(|post| post.is_away(at)).count();
    // What SIGNL4 has refused leaves the last places for others, so that it does not use up what it bears.
    let refused = record.posts.iter().filter(own).any(|post| {
        post.answer == 400 && post.ended.is_some_and(|ended| (at - MINUTE - SLACK..=at).contains(&ended))
    });
    away < life.concurrency && !refused && is_well(record, team, since, at)
}

/// Whether a team's own way is open beyond doubt: it got an event through since the last trouble.
fn is_well(record: &Record, team: usize, since: Millis, at: Millis) -> bool {
    let by = || record.posts.iter().filter(|post| post.by == team && post.sent >= since);
    let ended = |post: &Post| post.ended.filter(|&ended| ended <= at);
    let trouble = by().filter(|post| !matches!(post.answer, 201 | 400)).filter_map(ended).max();
    let trouble = trouble.unwrap_or(since);
    by().any(|post| {
        post.answer == 201 && post.sent > trouble && ended(post).is_some_and(|end| end + SLACK < at)
    })
}

/// What a storm has folded was one, is told, and few pages tell it.
fn a_storm_is_told(record: &Record, found: &mut Vec<Breach>) {
    let law = "a storm ends in few pages that name them all";
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    for post in record.posts.iter().filter(|post| post.is_taken()) {
        if let Of::Digest { storm, folded, names_the_list: true, .. } = post.of {
            let most = told.entry(storm).or_default();
            *most = folded.max(*most);
        }
    }
    let mut folded: BTreeMap<u64, u64> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for line in record.lines.iter().filter(|line| line.state == "folded") {
        match line.digest {
            Some(storm) => *folded.entry(storm).or_default() += 1,
            None => found.push(breach(law, format!("{:?} is folded into nothing", line.serial))),
        }
        names.extend(line.serial.map(|serial| (serial, line.team)));
    }
    for (storm, count) in folded {
        let told = told.get(&storm).copied().unwrap_or(0);
        if told != count {
            found.push(breach(law, format!("storm {storm} has folded {count} and told {told}")));
        }
    }
    let opens = || record.events.iter().filter(|event| event.kept.is_some() && event.status == Status::New);
    let mut times: BTreeMap<usize, (Vec<Millis>, Vec<Millis>)> = BTreeMap::new();
    for event in opens() {
        let (begun, kept) = times.entry(event.team).or_default();
        begun.push(event.begun);
        kept.extend(event.kept);
    }
    for (begun, kept) in times.values_mut() {
        begun.sort_unstable();
        kept.sort_unstable();
    }
    let mut before: Vec<Millis> = vec![Millis::MIN / 2; 16];
    for event in opens().filter(|event| names.contains(&(event.serial, event.team))) {
        let at = event.kept.unwrap_or(event.begun);
        if event.severity == Some(0) {
            found.push(breach(law, format!("m{} is critical and folded", event.serial)));
        }
        let Some(Storm { least, calm, .. }) = event.policy.storm else {
            found.push(breach(law, format!("m{} is folded where nothing may be", event.serial)));
            continue;
        };
        let (begun, kept) = &times[&event.team];
        let near =
            begun.partition_point(|&begun| begun <= at) - kept.partition_point(|&kept| kept < at - MINUTE);
        let last = std::mem::replace(&mut before[event.team], at);
        let goes_on = at - last <= calm + 2 * MINUTE || record.had_restart(last, at);
        if near <= least && !goes_on {
            found.push(breach(law, format!("m{} is folded and there is no storm", event.serial)));
        }
    }
    let single: BTreeSet<_> = record
        .posts_by_event()
        .iter()
        .filter(|(_, posts)| posts.iter().any(|post| post.is_taken()))
        .map(|(name, _)| *name)
        .collect();
    let sources = 1 + record.events.iter().map(|event| event.source).collect::<BTreeSet<_>>().len();
    for life in &record.lives {
        a_flood_is_folded(record, life, &single, sources, found);
    }
}

/// Within a minute of one life no more single pages leave that could be folded than are no storm.
fn a_flood_is_folded(
    record: &Record,
    life: &Life,
    single: &BTreeSet<(u32, usize)>,
    sources: usize,
    found: &mut Vec<Breach>,
) {
    let mut recent: BTreeMap<usize, std::collections::VecDeque<Millis>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for event in &record.events {
        let name = (event.serial, event.team);
        let within = event.begun >= life.from && life.to.is_none_or(|to| event.begun < to);
        let rises = event.incident.is_some_and(|incident| !known.insert((event.team, incident)));
        let Some(Storm { most, .. }) = event.policy.storm else { continue };
        if !within
            || rises
            || event.severity == Some(0)
            || event.status != Status::New
            || !single.contains(&name)
        {
            continue;
        }
        let times = recent.entry(event.team).or_default();
        times.push_back(event.begun);
        while times.front().is_some_and(|&at| event.begun - at >= 60_000) {
            times.pop_front();
        }
        if times.len() > most * sources {
            let what = format!("{} pages leave within a minute up to m{}", times.len(), event.serial);
            found.push(breach("a storm ends in few pages that name them all", what));
        }
    }
}

/// The laws of a listing, whenever it is made: `all` lines, those of the plain `queue list`, and those that each
/// digest tells.
pub fn look(
    record: &Record,
    at: Millis,
    all: &[Line],
    open: &[Line],
    digests: &BTreeMap<u64, Vec<Line>>,
    queued: u64,
) -> Vec<Breach> {
    let law = "everything waiting is listed by `queue`";
    let mut found = Vec::new();
    let posts = record.posts_by_event();
    let names: BTreeMap<_, _> =
        all.iter().filter_map(|line| Some(((line.serial?, line.team), line))).collect();
    let open_names: BTreeSet<_> = open.iter().filter_map(|line| Some((line.serial?, line.team))).collect();
    for event in record.events.iter().filter(|event| event.kept.is_some_and(|kept| kept <= at)) {
        let name = (event.serial, event.team);
        let taken = posts.get(&name).is_some_and(|posts| posts.iter().any(|post| post.is_taken()));
        let Some(line) = names.get(&name) else {
            found.push(breach(law, format!("m{} is kept and not listed at {at}", event.serial)));
            continue;
        };
        let waits = matches!(line.state.as_str(), "queued" | "failed");
        if waits != open_names.contains(&name) {
            found.push(breach(
                law,
                format!("m{} is {} and the plain list differs at {at}", event.serial, line.state),
            ));
        }
        if !taken && !waits && line.state == "delivered" {
            found.push(breach(law, format!("m{} is listed as delivered and was not at {at}", event.serial)));
        }
    }
    for (digest, lines) in digests {
        let folded = all.iter().filter(|line| line.digest == Some(*digest));
        if !folded.eq(lines) {
            found.push(breach(law, format!("the list of digest {digest} is not what it has folded at {at}")));
        }
    }
    let waiting = all.iter().filter(|line| line.state == "queued").count() as u64;
    if waiting != queued {
        found.push(breach(law, format!("{queued} are said to wait and {waiting} are listed at {at}")));
    }
    found
}
