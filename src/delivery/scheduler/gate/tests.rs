//! The gate as a table: what each answer does in each state.

use super::*;
use crate::delivery::webhook::{Answer, Limits, Reached};

fn at(seconds: i64) -> Timestamp {
    "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

/// The answers, by a word.
const ANSWERS: [&str; 7] =
    ["accepted", "refused", "throttled", "unauthorised", "foreign", "no secret", "unavailable"];

fn answer(word: &str) -> Answer {
    let reason = word.to_owned();
    match word {
        "accepted" => Answer::Accepted { event_id: None, limits: Limits::default() },
        "refused" => Answer::Refused { reason },
        "throttled" => Answer::Throttled { until: at(1_015), reason, limits: Limits::default() },
        "unauthorised" => Answer::Unauthorised { reason },
        "foreign" => Answer::Foreign { reason },
        "no secret" => Answer::NoSecret { reason },
        "unavailable" => Answer::Unavailable { reason, retry_after: None, reached: Reached::Yes },
        _ => panic!("no answer is called {word}"),
    }
}

/// The states, by a word; in `one event to lose` two events have failed and a third makes an outage.
const STATES: [&str; 7] = ["untried", "open", "one event to lose", "held", "unsure", "throttled", "down"];

/// A gate in a state, at second 1000, with a probe due and under way if it is shut.
fn gate(state: &str, can_ask: bool, whose: Whose) -> Gate {
    let mut gate = Gate::new(can_ask, Rng::with_seed(7), at(0));
    let first = |gate: &mut Gate, word: &str| {
        gate.send(Whose::Own(1));
        gate.learn(&answer(word), Whose::Own(1), at(0));
    };
    match state {
        "untried" => {}
        "open" => first(&mut gate, "accepted"),
        "one event to lose" => {
            first(&mut gate, "accepted");
            for seq in [2, 3] {
                gate.learn(&answer("unavailable"), Whose::Own(seq), at(0));
            }
        }
        "held" => first(&mut gate, "no secret"),
        "unsure" => {
            first(&mut gate, "accepted");
            gate.learn(&answer("unauthorised"), Whose::Own(2), at(0));
        }
        "throttled" => first(&mut gate, "throttled"),
        "down" => first(&mut gate, "unavailable"),
        _ => panic!("no state is called {state}"),
    }
    gate.send(whose);
    gate
}

/// What is known of a gate, in few words.
fn told(gate: &Gate, effects: &Effects) -> String {
    let state = match &gate.position {
        Position::Open { failing } => format!("open {}", failing.len()),
        Position::Shut { why: Why::Held { foreign, unsure }, .. } => {
            format!("held{}{}", if *foreign { " foreign" } else { "" }, if *unsure { " unsure" } else { "" })
        }
        Position::Shut { why, .. } => format!("{:?}", why.state()).to_lowercase(),
    };
    let next = match &gate.position {
        Position::Open { .. } => String::new(),
        Position::Shut { probe_at, .. } => match probe_at.duration_since(at(1_000)).as_secs() {
            wait @ (15 | 60 | 0) => format!(" +{wait}"),
            2..=4 => " +2 to 4".to_owned(),
            1 => " +1 to 2".to_owned(),
            wait if wait < 0 => " due".to_owned(),
            wait => format!(" +{wait}?"),
        },
    };
    let told: String = effects
        .notices
        .iter()
        .map(|notice| match notice {
            Notice::Held { .. } => ", tells held",
            Notice::Throttled { .. } => ", tells throttled",
            Notice::Down { .. } => ", tells down",
            Notice::Answers { .. } => ", tells answers",
            Notice::Deferred { .. } | Notice::Plan { .. } => panic!("that is no news of a gate"),
        })
        .collect();
    assert_eq!(effects.opened, !effects.shut && effects.opened && gate.state() == State::Open);
    format!("{state}{next}{told}")
}

/// The table: what each answer to `whose` post leads to in each state, a line for each.
fn table(can_ask: bool, whose: Whose) -> String {
    let mut table = String::new();
    for state in STATES {
        table.push_str(&format!("{state}\n"));
        for word in ANSWERS {
            let mut gate = gate(state, can_ask, whose);
            let effects = gate.learn(&answer(word), whose, at(1_000));
            assert!(gate.probe.is_none(), "{state}, {word}: its probe is over");
            table.push_str(&format!("    {word}: {}\n", told(&gate, &effects)));
        }
    }
    table
}

#[test]
fn each_answer_does_in_each_state_what_the_table_says() {
    let tables = [
        ("an event of its own, where the question may be asked", true, Whose::Own(9)),
        ("an event of its own, where it may not", false, Whose::Own(9)),
        ("an event of another team, where the question may be asked", true, Whose::Lent(9)),
        ("an event of another team, where it may not", false, Whose::Lent(9)),
        ("the question", true, Whose::Question),
    ];
    let all: String =
        tables.map(|(name, can_ask, whose)| format!("# {name}\n\n{}\n", table(can_ask, whose))).concat();
    assert!(all == include_str!("table.txt"), "{all}");
}

#[test]
fn an_answer_that_is_not_the_probes_opens_no_gate_that_a_refusal_has_shut() {
    for (state, opens) in [("untried", true), ("down", true), ("held", false), ("throttled", false)] {
        let mut gate = gate(state, true, Whose::Question);
        assert_eq!(gate.learn(&answer("accepted"), Whose::Own(9), at(1)).opened, opens, "{state}");
        assert!(gate.probe.is_some());
    }
}

#[test]
fn an_event_that_is_refused_again_while_others_are_taken_is_blamed_and_shuts_no_gate() {
    for word in ["unauthorised", "foreign"] {
        let mut gate = gate("open", true, Whose::Question);
        assert_eq!(gate.learn(&answer(word), Whose::Own(2), at(1)).blamed, None);
        gate.send(Whose::Question);
        gate.learn(&answer("accepted"), Whose::Question, at(2));
        for times in 1..=3 {
            let effects = gate.learn(&answer(word), Whose::Own(2), at(3));
            assert_eq!((effects.blamed, effects.shut), (Some(times), false));
            assert_eq!(gate.learn(&answer(word), Whose::Own(2), at(3)).blamed, None, "none was taken since");
            gate.send(Whose::Question);
            gate.learn(&answer("accepted"), Whose::Question, at(4));
        }
        gate.forget(2);
        assert_eq!(gate.learn(&answer(word), Whose::Own(2), at(5)).blamed, None);
    }
}

#[test]
fn a_hold_is_told_again_after_five_minutes_or_for_another_reason() {
    let mut gate = gate("held", true, Whose::Question);
    let mut told = Vec::new();
    for minute in 1..=14 {
        let word = if minute < 12 { "no secret" } else { "unauthorised" };
        gate.send(Whose::Question);
        let effects = gate.learn(&answer(word), Whose::Question, at(60 * minute));
        told.extend((!effects.notices.is_empty()).then_some(minute));
    }
    assert_eq!(told, [5, 10, 12]);
}

#[test]
fn since_when_a_secret_is_refused_is_kept_until_something_gets_through() {
    let mut gate = Gate::new(true, Rng::with_seed(7), at(0));
    gate.was_held(at(-500));
    for (word, held) in [("unavailable", false), ("throttled", false), ("no secret", true)] {
        gate.send(Whose::Own(1));
        gate.learn(&answer(word), Whose::Own(1), at(1));
        assert_eq!(gate.held_since(), Some(at(-500)), "{word}");
        assert_eq!(gate.held_for(SignedDuration::from_secs(600)), held.then(|| at(100)), "{word}");
    }
    gate.send(Whose::Question);
    gate.learn(&answer("accepted"), Whose::Question, at(2));
    assert_eq!((gate.held_since(), gate.state()), (None, State::Open));
}

#[test]
fn each_gate_lets_out_what_finds_out_most() {
    let allowed = |state: &str, can_ask: bool| {
        let mut gate = gate(state, can_ask, Whose::Own(9));
        assert!(
            state.contains("open") || state.contains("lose") || gate.allows(at(2_000)) == Allowed::Nothing
        );
        gate.probe = None;
        gate.allows(at(2_000))
    };
    for (state, can_ask, expected) in [
        ("untried", true, Allowed::MostUrgent),
        ("open", true, Allowed::Events),
        ("one event to lose", true, Allowed::Events),
        ("held", true, Allowed::Question),
        ("held", false, Allowed::LeastTried),
        ("unsure", true, Allowed::Question),
        ("throttled", true, Allowed::MostUrgent),
        ("down", true, Allowed::MostUrgent),
    ] {
        assert_eq!(allowed(state, can_ask), expected, "{state}, {can_ask}");
    }
    let mut twice = gate("down", true, Whose::Own(9));
    twice.learn(&answer("unavailable"), Whose::Own(9), at(1_000));
    assert_eq!(twice.allows(at(2_000)), Allowed::LeastTried, "the most urgent may be what fails");
}
