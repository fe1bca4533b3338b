//! What was kept of an incident and not sent, and how its text differed from what was paged.

use jiff::Timestamp;

use crate::event::bounded;
use crate::spool::{KeptEvent, KnownIncident};

use super::columns::{age, plain};

/// Longest part of a text that is shown, in characters.
const PART: usize = 60;

/// A line for each mail of an incident that was kept and not sent, the latest first.
pub(super) fn lines(known: &KnownIncident, now: Timestamp) -> String {
    let line = |kept: &KeptEvent| {
        let reason = plain(kept.reason.as_deref().unwrap_or("kept"));
        let differs = known.page.as_deref().map(|page| difference(page, &kept.text));
        let differs = differs.map_or_else(String::new, |differs| format!("; {differs}"));
        format!("  {} {} ago: {reason}{differs}\n", kept.id, age(kept.at, now))
    };
    known.kept.iter().map(line).collect()
}

/// How the text of a mail that was kept differs from that of the page.
fn difference(page: &str, kept: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (page.split_whitespace().collect(), kept.split_whitespace().collect());
    let same = |a: &mut dyn Iterator<Item = (&&str, &&str)>| a.take_while(|(a, b)| a == b).count();
    let start = same(&mut before.iter().zip(&after));
    let rest = (&before[start..], &after[start..]);
    let end = same(&mut rest.0.iter().rev().zip(rest.1.iter().rev()));
    let part = |words: &[&str]| bounded(&plain(&words.join(" ")), PART).into_owned();
    match (part(&rest.0[..rest.0.len() - end]), part(&rest.1[..rest.1.len() - end])) {
        (was, is) if was.is_empty() && is.is_empty() => "the same text".to_owned(),
        (was, is) if is.is_empty() => format!("without \"{was}\""),
        (was, is) if was.is_empty() => format!("with \"{is}\" in addition"),
        (was, is) => format!("\"{is}\" instead of \"{was}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_and_no_more() {
        let page = "Disk full\nDisk 1 of db7 is 95 % full.";
        for (kept, told) in [
            (page, "the same text"),
            ("Disk full\nDisk 1 of db7 is 97 % full.", "\"97\" instead of \"95\""),
            ("Disk full\nDisk 1 of db7 is 95 % full. Act.", "with \"Act.\" in addition"),
            ("Disk full\nDisk 1 is 95 % full.", "without \"of db7\""),
            ("Disk full", "without \"Disk 1 of db7 is 95 % full.\""),
        ] {
            assert_eq!(difference(page, kept), told);
        }
    }
}
