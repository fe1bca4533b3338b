//! The laws of who an alert is and who may touch it.

use super::letter::{Letter, What};
use super::{DIGEST, Fate, Post, QUIET};

/// How long an answer of SIGNL4 may take, in seconds: the quiet time counts from there.
const ANSWER: i64 = 10;

/// What is wrong with a history, in words.
///
/// `late` says by how many seconds more than in the best of worlds what is not paged singly may be told.
pub(super) fn breaches(letters: &[Letter], fate: &Fate, late: i64) -> Vec<String> {
    let mut found = Vec::new();
    let known = |post: &Post| post.letter.map(|serial| &letters[serial]);
    for (serial, letter) in letters.iter().enumerate().filter(|(_, letter)| letter.is_problem()) {
        if letter.is_strangers() {
            continue;
        }
        let at = fate.times[serial];
        // Since its last end, and no longer ago than the quiet time.
        let end = (0..serial).rev().find(|&before| letters[before].ends(letter));
        let ended = end.map_or(i64::MIN, |end| fate.times[end]);
        let since_then = || end.map_or(0, |end| end + 1)..serial;
        let told = |since: i64| {
            fate.posts.iter().any(|post| {
                post.status == "new"
                    && since <= post.at
                    && post.at <= (at + DIGEST).saturating_add(late)
                    && !known(post).is_some_and(Letter::is_strangers)
                    && post.letter.is_none_or(|of| of == serial || since_then().contains(&of))
                    && post.text.contains(&letter.token())
            })
        };
        if !told((at - QUIET - ANSWER).max(ended)) {
            found.push(format!("{serial} {letter:?} at {at} is told to nobody: {}", fate.states[serial]));
        }
        let rises = matches!(letter.what, What::Down { worse: true, .. })
            && !since_then()
                .any(|before| letters[before].who == letter.who && letters[before].what == letter.what);
        if rises && !told(at) {
            found.push(format!("{serial} {letter:?} at {at} is worse than before and told to nobody"));
        }
        // The same again within the quiet time pages nobody, where nothing ended it.
        let again = since_then().any(|before| {
            let same = letters[before].who == letter.who && letters[before].what == letter.what;
            same && at - fate.times[before] < QUIET / 2
        });
        let single =
            fate.posts.iter().filter(|post| post.letter == Some(serial) && post.status == "new").count();
        let paged = since_then().any(|before| {
            let same = letters[before].who == letter.who && letters[before].token() == letter.token();
            same && at - fate.times[before] < QUIET
                && fate.posts.iter().any(|post| post.letter == Some(before) && post.status == "new")
        });
        if again && paged && single > 0 && !rises && !matches!(letter.what, What::Down { .. }) {
            found.push(format!("{serial} {letter:?} at {at} pages again within its quiet time"));
        }
    }
    for post in fate.posts.iter().filter(|post| post.status != "new") {
        let Some(letter) = known(post) else { continue };
        if letter.is_strangers() {
            found.push(format!("{:?} of a stranger: {letter:?}", post));
        }
        // What others have opened by this name and nobody has closed since.
        let open = fate
            .posts
            .iter()
            .filter(|before| before.id == post.id && before.letter < post.letter)
            .filter_map(|before| Some((before, known(before)?)))
            .rfind(|(before, of)| !of.is_strangers() && before.status != "acknowledged")
            .filter(|(before, _)| before.status != "resolved");
        if let Some((_, other)) = open.filter(|(_, other)| other.who != letter.who) {
            found.push(format!("{post:?} of {letter:?} touches what {other:?} opened"));
        }
    }
    found
}

/// What strangers have changed for others: the histories with them and without.
pub(super) fn differences(letters: &[Letter], fate: &Fate, without: &Fate) -> Vec<String> {
    let mut found = Vec::new();
    // A close may also close what a stranger had opened under the same name.
    let others = |letter: &&Letter| !letter.is_strangers() && letter.is_problem();
    for (serial, letter) in letters.iter().enumerate().filter(|(_, letter)| others(letter)) {
        let posts = |fate: &Fate| -> Vec<(i64, String, String)> {
            let of = fate.posts.iter().filter(|post| post.letter == Some(serial));
            of.map(|post| (post.at, post.status.clone(), post.id.clone())).collect()
        };
        if posts(fate) != posts(without) || fate.states[serial] != without.states[serial] {
            found.push(format!(
                "{serial} {letter:?}: {} {:?} with strangers, {} {:?} without",
                fate.states[serial],
                posts(fate),
                without.states[serial],
                posts(without)
            ));
        }
    }
    found
}
