//! Tags that a mail gets in front of its subject on the way: by a filter, by a mailing list, by being forwarded.

use std::sync::LazyLock;

use regex::Regex;

use super::mark::Mark;

/// Most tags that are taken off one subject.
const TIMES: usize = 20;

/// A subject without its tags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Untagged<'s> {
    pub(super) subject: &'s str,
    /// The tags that were taken off, as they stood.
    pub(super) tags: Vec<&'s str>,
    /// Whether one of them says that the mail was forwarded.
    pub(super) forwarded: bool,
    /// Whether the rest is the subject of a reply.
    pub(super) reply: bool,
}

/// What a filter says of a mail: in brackets of any kind, or, where it is only who it is from, with a colon. Words that
/// are titles of alerts as well, such as `[Warning]` or `[Phishing]`, are none.
static FILTER: LazyLock<Regex> = LazyLock::new(|| {
    let outside = r"ext|extern|external|externe|externo|externa|esterno|outside";
    let doubt = r"suspicious|suspected|suspect|possible|probable|potential|likely|spam|junk|bulk|unverified|untrusted|disarmed|newsletter|marketing|graymail|greymail";
    let more =
        r"e-?mail|mail|message|msg|sender|source|origin|caution|warning|nachricht|absender|org|organization";
    let word = format!(r"(?:{outside}|{doubt}|{more})");
    let score = r"(?:[ :(]*[0-9]+(?:[.,][0-9]+)?%?\)?)?";
    let core =
        format!(r"(?:marked as )?(?:(?:{more})[ :_-]+)*(?:{outside}|{doubt})(?:[ :_-]+{word})*[?!]*{score}");
    let inside = format!(r"[*!#~ ]*{core}[*!#~ ]*");
    let brackets = format!(
        r"\[{inside}\]|\{{{inside}\}}|\({inside}\)|<{inside}>|\*+ ?{core} ?\*+|#+ ?{core} ?#+|=+ ?{core} ?=+|_+ ?{core} ?_+"
    );
    let colon = format!(r"(?:{outside}|spam|junk)(?:[ _-]+(?:e-?mail|mail|message|sender))?\??");
    Regex::new(&format!(
        r"^(?:[⚠❗‼]\u{{fe0f}}?\s*)?(?i:(?:{brackets})[:-]?(?:\s*-\s+)?|{colon}\s*(?::|-?>|\s-\s))"
    ))
    .expect("the pattern is fixed")
});

/// The marks of forwarding, in the languages of mail programs.
static FORWARD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?i:fwd?|wg|tr|rv|enc|doorst|vb|vl|转发|轉寄|転送)(?:\[[0-9]+\]|\([0-9]+\))?\s*[:：]")
        .expect("the pattern is fixed")
});

/// The marks of a reply.
static REPLY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?i:re|aw|sv|antw|ynt|odp|回复|回覆|答复)(?:\[[0-9]+\]|\([0-9]+\)|\^[0-9]+)?\s*[:：]")
        .expect("the pattern is fixed")
});

/// Takes the tags off `subject`: those that are known everywhere, those of the site, and the name of the mailing `lists`
/// that the mail came by, in brackets. A subject that is nothing but tags stays.
pub(super) fn strip<'s>(subject: &'s str, site: &[Mark], lists: &[String]) -> Untagged<'s> {
    let mut found = Untagged { subject, ..Untagged::default() };
    let mut rest = subject.trim_start();
    for _ in 0..TIMES {
        let own = site.iter().find_map(|mark| mark.prefix(rest));
        let forward = FORWARD.find(rest).map(|mark| mark.end());
        let length = own
            .or(forward)
            .or_else(|| FILTER.find(rest).map(|tag| tag.end()))
            .or_else(|| list_prefix(rest, lists));
        let Some(length) = length.filter(|length| *length > 0) else { break };
        let after = rest[length..].trim_start();
        if after.is_empty() {
            break;
        }
        found.forwarded |= own.is_none() && forward.is_some();
        found.tags.push(rest[..length].trim_end());
        rest = after;
    }
    if !found.tags.is_empty() {
        found.subject = rest;
    }
    found.reply = REPLY.is_match(rest);
    found
}

/// How tags that were taken off are told.
pub(super) fn undone(tags: &[&str]) -> String {
    format!("in front of the subject: {}", tags.join(" "))
}

/// The length of `[name]` or `(name)` at the start, where `name` is that of a mailing list.
fn list_prefix(subject: &str, lists: &[String]) -> Option<usize> {
    let close = match subject.chars().next()? {
        '[' => ']',
        '(' => ')',
        _ => return None,
    };
    let end = subject.find(close)?;
    let name = subject[1..end].to_lowercase();
    lists.contains(&name).then_some(end + 1)
}

/// The names that the value of a List-Id or List-Post field gives a mailing list, in lower case.
pub(super) fn list_names(value: &str) -> Vec<String> {
    let (phrase, rest) = value.split_once('<').unwrap_or(("", value));
    let id = rest.trim_end_matches('>').trim();
    let id = id.strip_prefix("mailto:").unwrap_or(id);
    let first = id.split(['.', '@']).next().unwrap_or_default();
    [phrase.trim().trim_matches('"'), first]
        .into_iter()
        .filter(|name| !name.is_empty() && name.len() <= 60)
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(subject: &str) -> &str {
        strip(subject, &[], &[]).subject
    }

    #[test]
    fn tags_of_filters_and_marks_of_forwarding_go_in_any_order_and_number() {
        let subject = "** PROBLEM Service Alert: a/b is CRITICAL **";
        for tag in [
            "[EXTERNAL] ",
            "[EXT] ",
            "EXTERNAL: ",
            "Ext: ",
            "EXTERN - ",
            "[External Email] ",
            "[EXTERNAL SENDER]",
            "[SUSPICIOUS] ",
            "[SUSPECTED SPAM] ",
            "*** SPAM *** ",
            "***SPAM*** ",
            "{Spam?} ",
            "[SPAM 5.2] ",
            "*****SPAM(05.2)***** ",
            "[Bulk] ",
            "(EXTERNAL) ",
            "[CAUTION: EXTERNAL EMAIL] ",
            "[**EXTERNAL**] ",
            "[EXTERNAL]: ",
            "[EXTERNAL] - ",
            "Fwd: ",
            "FW: ",
            "WG: ",
            "TR: ",
            "RV: ",
            "Fwd[2]: ",
            "FW: WG: [EXT] Fwd:",
            "[EXTERNAL] *** SPAM *** FW: ",
            "<External> ",
            "⚠️ External: ",
            "[EXTERNAL]-",
            "[Marked as spam] ",
            "External -> ",
            "Spam: ",
            "转发：",
        ] {
            assert_eq!(bare(&format!("{tag}{subject}")), subject, "{tag}");
        }
    }

    #[test]
    fn what_products_write_in_front_stays() {
        for subject in [
            "[FIRING:1] InstanceDown",
            "[RESOLVED] CPU high",
            "[Success] Weekly (4 objects)",
            "[Warning] Weekly",
            "[Alerting] x",
            "[OK] x",
            "[Case #1208] Phish",
            "[XSOAR #5120] Malware",
            "[TheHive] Case #7",
            "*** RECOVERY ***",
            "** PROBLEM Host Alert: db1 is DOWN **",
            "[PRTG-A] edge Ping Down",
            "[Phishing] reported mail",
            "[!] failed",
            "External link down",
            "Extended event: x",
            "SpamAssassin: down",
            "Suspicious: login",
            "(1/3) x",
            "[external-dns] sync failed",
            "Bulk: import failed",
        ] {
            assert_eq!(strip(subject, &[], &[]), Untagged { subject, ..Untagged::default() });
        }
    }

    #[test]
    fn a_reply_is_no_tag() {
        for subject in ["Re: Fwd: x", "AW: x", "SV: x", "Antw: x", "RE[2]: x"] {
            let found = strip(subject, &[], &[]);
            assert_eq!((found.subject, found.reply, found.tags.len()), (subject, true, 0));
        }
        let found = strip("[EXT] FW: Re: x", &[], &[]);
        assert_eq!((found.subject, found.reply, found.forwarded), ("Re: x", true, true));
        assert_eq!(found.tags, ["[EXT]", "FW:"]);
        assert!(!strip("Report: x", &[], &[]).reply);
    }

    #[test]
    fn the_name_of_a_list_goes_only_where_the_mail_came_by_it() {
        let lists = list_names("\"SOC Alerts\" <alerts.lists.ops.example>");
        assert_eq!(strip("[alerts] Problem: x", &[], &lists).subject, "Problem: x");
        assert_eq!(strip("[SOC alerts] Problem: x", &[], &lists).subject, "Problem: x");
        assert_eq!(strip("[other] Problem: x", &[], &lists).subject, "[other] Problem: x");
        assert_eq!(strip("[alerts] Problem: x", &[], &[]).subject, "[alerts] Problem: x");
        assert_eq!(list_names("<mailto:noc@ops.example>"), ["noc"]);
    }

    #[test]
    fn the_tags_of_the_site_go() {
        let site = [Mark::read("ACME-EXT").unwrap(), Mark::read("/T[0-9]+ /").unwrap()];
        assert_eq!(strip("Fwd: acme-ext T12 [EXT] x", &site, &[]).subject, "x");
    }

    #[test]
    fn a_subject_that_is_nothing_but_tags_stays() {
        for subject in ["[EXTERNAL]", "Fwd: ", "*** SPAM ***", ""] {
            assert_eq!(bare(subject), subject);
        }
        assert_eq!(bare("[EXT] [EXT]"), "[EXT]");
    }
}
