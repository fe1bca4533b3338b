//! A random history: what senders, operators, the net and the machine do, and when. All of it is drawn from
//! the seed before it begins, so that it can be printed, cut down and run again.

use fastrand::Rng;

use super::signl4::Weather;
use crate::letter::Letter;
use crate::record::{MINUTE, Millis, Status};

const SECOND: Millis = 1_000;

/// What happens, and how long after what happened before.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) after: Millis,
    pub(super) deed: Deed,
}

#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// A mail is handed in.
    Mail(Letter),
    /// Several at the same time, of as many incidents.
    Crowd(Vec<Letter>),
    /// The net or SIGNL4 is not as it should be, for a time.
    Weather(Weather, Millis),
    /// A team's secret is refused, or no longer.
    Secret { team: usize, valid: bool },
    /// The disk fails, for a time.
    Disk(Millis),
    /// The rules are loaded anew, with another quiet time.
    Rules { quiet: Millis },
    /// The service is started again with other targets.
    Aim(Aims),
    /// An operator wants all that waits to be tried.
    Wake,
    /// An operator lists the queue.
    Look,
    /// The service is stopped in order and starts again after a while.
    Restart { down: Millis, site: Site },
    /// It is killed, perhaps while a mail is handed in.
    Kill { within: Option<(Letter, u64)>, down: Millis, site: Site },
}

/// Where the teams' events go: the second secret of a team or the first, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aims(pub(super) [Option<usize>; 3]);

/// What the config says from one start to the next.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) quiet: Millis,
    pub(super) acknowledged_quiet: Millis,
    pub(super) hold: Millis,
    /// The interval and the calm of storms; none if nothing is folded.
    pub(super) storm: Option<(Millis, Millis)>,
    pub(super) concurrency: usize,
    pub(super) timeout: Millis,
    pub(super) fallback_after: Millis,
    pub(super) probe: bool,
    pub(super) aims: Aims,
}

/// What SIGNL4 lets an account post, and what the config says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) commercial: bool,
    pub(super) told: bool,
}

#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) seed: u64,
    pub(super) account: Account,
    pub(super) site: Site,
    pub(super) steps: Vec<Step>,
}

impl History {
    /// The history of `seed`, of about so many steps.
    pub(super) fn of(seed: u64, length: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let account = Account { commercial: rng.u8(0..4) == 0, told: rng.bool() };
        let site = Site::draw(rng);
        let pace = *rng.choice(&[300, 1_500, 8_000]).expect("there are some");
        let mut steps = Vec::new();
        while steps.len() < length {
            let after = match rng.u8(0..100) {
                0..70 => rng.i64(0..pace),
                70..97 => rng.i64(0..10 * pace),
                97..99 => rng.i64(0..20 * MINUTE),
                _ => rng.i64(0..3 * 60 * MINUTE),
            };
            steps.push(Step { after, deed: Deed::draw(rng) });
            if rng.u8(0..60) == 0 {
                flood(rng, &mut steps);
            }
        }
        Self { seed, account, site, steps }
    }
}

impl Site {
    fn draw(rng: &mut Rng) -> Self {
        let minutes = |rng: &mut Rng, list: &[i64]| MINUTE * *rng.choice(list).expect("there are some");
        Self {
            quiet: minutes(rng, &[1, 3, 10, 10, 40]),
            acknowledged_quiet: minutes(rng, &[2, 30, 120]),
            hold: if rng.u8(0..6) == 0 { 20 * SECOND } else { 0 },
            storm: (rng.u8(0..5) > 0).then(|| (minutes(rng, &[1, 2, 5]), minutes(rng, &[1, 3, 5]))),
            concurrency: rng.usize(1..=16),
            timeout: SECOND * *rng.choice(&[5, 10, 30]).expect("there are some"),
            fallback_after: minutes(rng, &[1, 3, 10]),
            probe: rng.bool(),
            aims: Aims::draw(rng, false),
        }
    }
}

impl Aims {
    fn draw(rng: &mut Rng, some: bool) -> Self {
        let mut draw = || match rng.u8(0..10) {
            0 if some => None,
            0..8 => Some(0),
            _ => Some(1),
        };
        Self([draw(), draw(), draw()])
    }
}

/// A mail about anything.
fn letter(rng: &mut Rng) -> Letter {
    let team = rng.usize(0..3);
    let teams = if rng.u8(0..15) == 0 { vec![team, (team + 1) % 3] } else { vec![team] };
    let status = match rng.u8(0..20) {
        0..13 => Status::New,
        13..18 => Status::Resolved,
        _ => Status::Acknowledged,
    };
    let incident = (status != Status::New || rng.u8(0..12) > 0).then(|| rng.u16(0..16));
    Letter {
        teams,
        incident,
        status,
        severity: (rng.u8(0..8) > 0).then(|| rng.u8(0..5)),
        source: rng.u8(0..2),
        refused: rng.u8(0..60) == 0,
    }
}

impl Deed {
    fn draw(rng: &mut Rng) -> Self {
        let spell = |rng: &mut Rng| match rng.u8(0..4) {
            0 => rng.i64(0..20 * MINUTE),
            _ => rng.i64(0..90 * SECOND),
        };
        match rng.u8(0..100) {
            0..62 => Self::Mail(letter(rng)),
            62..66 => Self::Crowd(crowd(rng)),
            66..76 => {
                let errors = Weather::Errors(*rng.choice(&[500, 502, 503, 504]).expect("there are some"));
                let throttled = Weather::Throttled(rng.bool());
                let (refused, flaky) = (Weather::Refused, Weather::Flaky);
                let (silent, lossy, wall) = (Weather::Silent, Weather::Lossy, Weather::Firewall);
                let list = [refused, silent, lossy, lossy, errors, flaky, throttled, wall];
                Self::Weather(*rng.choice(&list).expect("there are some"), spell(rng))
            }
            76..80 => Self::Secret { team: rng.usize(0..3), valid: rng.u8(0..3) > 0 },
            80..82 => Self::Disk(rng.i64(0..6 * SECOND)),
            82..85 => Self::Rules { quiet: MINUTE * rng.i64(1..30) },
            85..88 => Self::Aim(Aims::draw(rng, true)),
            88..90 => Self::Wake,
            90..93 => Self::Look,
            93..95 => Self::Restart { down: rng.i64(0..20 * SECOND), site: Site::draw(rng) },
            _ => {
                let within = rng.bool().then(|| (letter(rng), rng.u64(0..8)));
                // Whoever starts a service anew takes a moment for it.
                let down = if rng.bool() { 100 } else { rng.i64(100..3 * MINUTE) };
                Self::Kill { within, down, site: Site::draw(rng) }
            }
        }
    }
}

/// Mails at the same time: each incident of a team once, for there is no order among them.
fn crowd(rng: &mut Rng) -> Vec<Letter> {
    let mut crowd: Vec<Letter> = Vec::new();
    for _ in 0..rng.u8(2..30) {
        let mut letter = letter(rng);
        letter.teams.truncate(1);
        let same = |other: &Letter| other.teams == letter.teams && other.incident == letter.incident;
        if letter.incident.is_none() || !crowd.iter().any(same) {
            crowd.push(letter);
        }
    }
    crowd
}

/// Many mails of one source for one team, as of a tool that imports its past.
fn flood(rng: &mut Rng, steps: &mut Vec<Step>) {
    let (team, source, spacing) = (rng.usize(0..3), rng.u8(0..2), rng.i64(1..2 * SECOND));
    let first = rng.u16(20..100);
    for n in 0..rng.u16(15..90) {
        let mut letter = letter(rng);
        (letter.teams, letter.source) = (vec![team], source);
        if letter.incident.is_some() && rng.u8(0..10) > 0 {
            // Most of them are incidents of their own, and some are closed later on.
            (letter.incident, letter.status) = (Some(first + n), Status::New);
        }
        steps.push(Step { after: rng.i64(0..spacing), deed: Deed::Mail(letter.clone()) });
        if rng.u8(0..6) == 0 {
            letter.status = Status::Resolved;
            letter.incident = letter.incident.or(Some(first));
            steps.push(Step { after: rng.i64(0..spacing), deed: Deed::Mail(letter) });
        }
    }
}
