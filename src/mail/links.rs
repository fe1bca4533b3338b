//! Links that a filter rewrote on the way so that a click goes by its own server: back to the link that was written.
//! Only forms that hold that link; those that stand for it by a number (Mimecast) stay.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;

use super::transfer::hex_pair;

/// How it is told.
pub(super) const UNDONE: &str = "links that were rewritten on the way";

/// Longest link that is looked at.
const LIMIT: usize = 8 * 1024;

/// How often a link may have been rewritten.
const TIMES: usize = 3;

/// `text` with its links as they were written; none if none was rewritten.
pub(super) fn restored(text: &str) -> Option<String> {
    let mut out = String::new();
    // How far the text is taken over, and how far it is looked at.
    let (mut from, mut seen) = (0, 0);
    for (at, _) in text.match_indices("https://") {
        let rest = &text[at..];
        if at < seen || !rest.as_bytes()[8..].iter().take(100).any(|byte| matches!(byte, b'/' | b'?')) {
            continue;
        }
        let rest = &rest[..rest.floor_char_boundary(LIMIT)];
        let end = rest.find(|c: char| c.is_whitespace() || c.is_control() || "<>\"".contains(c));
        let link = &rest[..end.unwrap_or(rest.len())];
        // What closes a sentence or a bracket is not part of it.
        let link = link.trim_end_matches(['.', ',', ';', ')', ']', '\'']);
        seen = at + link.len();
        if let Some(written) = written(link) {
            let before = &text[from..at];
            let after = &text[at + link.len()..];
            let shown = before.strip_suffix('<').map(str::trim_end);
            if after.starts_with('>') && shown.is_some_and(|shown| is_shown(shown, &written)) {
                // The text of the link was the link: a program showed both.
                out.push_str(shown.unwrap_or(before));
                from = at + link.len() + 1;
                continue;
            }
            out.push_str(before);
            out.push_str(&written);
            from = at + link.len();
        }
    }
    (from > 0).then(|| out + &text[from..])
}

/// Whether a text ends with `link`, up to a slash at its end.
fn is_shown(text: &str, link: &str) -> bool {
    text.trim_end_matches('/').ends_with(link.trim_end_matches('/'))
}

/// The link that was written in the place of `link`; none if it was not rewritten.
pub(super) fn written(link: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for _ in 0..TIMES {
        let Some(inner) = inner(found.as_deref().unwrap_or(link)).filter(|inner| is_link(inner)) else {
            break;
        };
        found = Some(inner);
    }
    found
}

/// Whether this is a link as people write them, and nothing that hides or goes on.
fn is_link(text: &str) -> bool {
    text.len() <= LIMIT
        && (text.starts_with("http://") || text.starts_with("https://"))
        && text.len() > 10
        && !text.contains(|c: char| {
            c.is_whitespace() || c.is_control() || super::is_hidden(c) || "<>\"".contains(c)
        })
}

/// The link inside of one that was rewritten once.
fn inner(link: &str) -> Option<String> {
    let rest = link.strip_prefix("https://").or(link.strip_prefix("http://"))?;
    // A query may stand right behind the host, and a port before it.
    let (host, path) = rest.split_at(rest.find(['/', '?'])?);
    let path = path.strip_prefix('/').unwrap_or(path);
    let host = host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    let within = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|below| below.is_empty() || below.ends_with('.'))
    };
    let parameter = |name: &str| {
        let (_, query) = path.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(percent_decoded)
    };
    if within("safelinks.protection.outlook.com") || within("safelinks.protection.office365.us") {
        return parameter("url");
    }
    if within("urldefense.com") || within("urldefense.us") || within("urldefense.proofpoint.com") {
        if let Some(rest) = path.strip_prefix("v3/__") {
            return proofpoint_v3(rest);
        }
        if path.starts_with("v2/url?") {
            return Some(proofpoint_v2(&parameter("u")?));
        }
        return parameter("u");
    }
    if host == "secure-web.cisco.com" {
        return path.split_once('/').map(|(_, inner)| percent_decoded(inner));
    }
    if within("linkprotect.cudasvc.com") {
        return parameter("a");
    }
    if within("trendmicro.com") && path.contains("/v1/query") {
        return parameter("url");
    }
    if host == "clicktime.symantec.com" {
        return parameter("u").or_else(|| path.split_once('/').map(|(_, inner)| percent_decoded(inner)));
    }
    if within("fireeye.com") && host.starts_with("protect") {
        return parameter("u");
    }
    if within("protection.sophos.com") || host == "atpscan.global.hornetsecurity.com" {
        return String::from_utf8(base64_decode(parameter("u")?.as_bytes())?).ok();
    }
    if within("avanan.click") || within("checkpoint.com") && host.starts_with("protect") {
        let (_, rest) = path.split_once("___")?;
        return rest.split_once("___").map(|(inner, _)| inner.to_owned());
    }
    if matches!(host.as_str(), "www.google.com" | "google.com") && path.starts_with("url?") {
        return parameter("q").filter(|inner| is_link(inner)).or_else(|| parameter("url"));
    }
    None
}

fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        match hex_pair(after) {
            Some(decoded) if *byte == b'%' => {
                out.push(decoded);
                rest = &after[2..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    match String::from_utf8_lossy(&out) {
        // No link: what checks it refuses the mark.
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// Version 2 writes `-` for `%` and `_` for `/`.
fn proofpoint_v2(text: &str) -> String {
    percent_decoded(&text.replace('-', "%").replace('_', "/"))
}

/// Version 3 stars out what it does not like and puts it, in base64, behind the link: `*` for one byte, `**` and a
/// letter for several.
fn proofpoint_v3(rest: &str) -> Option<String> {
    const RUNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (link, after) = rest.rsplit_once("__;")?;
    let encoded = after.split_once('!').map_or(after, |(encoded, _)| encoded);
    let standard: String = encoded
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    let padded = format!("{standard}{}", "=".repeat(standard.len().wrapping_neg() % 4));
    let replaced = if encoded.is_empty() { Vec::new() } else { base64_decode(padded.as_bytes())? };
    let mut replaced = replaced.into_iter();
    let mut out = Vec::with_capacity(link.len());
    let bytes = link.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'*' {
            out.push(byte);
            continue;
        }
        let run = match bytes.get(at..at + 2) {
            Some([b'*', letter]) => RUNS.iter().position(|run| run == letter),
            _ => None,
        };
        if let Some(run) = run {
            at += 2;
            out.extend(replaced.by_ref().take(run + 2));
        } else {
            // A star that was there is starred out as well.
            out.push(replaced.next().unwrap_or(b'*'));
        }
    }
    let mut link = String::from_utf8(out).ok()?;
    // A slash of the scheme may have been lost on the way.
    for scheme in ["https:/", "http:/"] {
        if link.strip_prefix(scheme).is_some_and(|rest| !rest.starts_with('/')) {
            link.insert(scheme.len(), '/');
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rewriter_gives_back_the_link() {
        for (rewritten, link) in [
            (
                "https://eur02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fhive.example%2Falerts%2F~8&data=05%7C02&reserved=0",
                "https://hive.example/alerts/~8",
            ),
            (
                "https://urldefense.proofpoint.com/v1/url?u=http://hive.example/a&k=x%0A&r=y",
                "http://hive.example/a",
            ),
            (
                "https://urldefense.proofpoint.com/v2/url?u=https-3A__hive.example_cases_-7E41_x-5Fy-3Fa-3Db&d=DwMF&c=z",
                "https://hive.example/cases/~41/x_y?a=b",
            ),
            (
                "https://urldefense.com/v3/__https://hive.example/cases/*41/details__;fg!!Abc!dEf$",
                "https://hive.example/cases/~41/details",
            ),
            ("https://urldefense.us/v3/__https:/hive.example/a__;!!Abc!dEf$", "https://hive.example/a"),
            (
                "https://urldefense.com/v3/__https://hive.example/a**Bb__;Kn4_!!Abc!dEf$",
                "https://hive.example/a*~?b",
            ),
            ("https://secure-web.cisco.com/1abc-d/https%3A%2F%2Fhive.example%2Fa", "https://hive.example/a"),
            (
                "https://linkprotect.cudasvc.com/url?a=https%3a%2f%2fhive.example%2fa&c=E,1",
                "https://hive.example/a",
            ),
            ("https://url.avanan.click/v2/___https://hive.example/a___.YXAz", "https://hive.example/a"),
            (
                "https://eu-west-1.protection.sophos.com/?d=hive.example&u=aHR0cHM6Ly9oaXZlLmV4YW1wbGUvYQ==&i=x",
                "https://hive.example/a",
            ),
            (
                "https://us-west-2.protection.sophos.com?d=hive.example&u=aHR0cHM6Ly9oaXZlLmV4YW1wbGUvYQ==&i=x",
                "https://hive.example/a",
            ),
            (
                "https://imsva91-ctp.trendmicro.com:443/wis/clicktime/v1/query?url=https%3A%2F%2Fhive.example%2Fa&umid=1",
                "https://hive.example/a",
            ),
            ("https://www.google.com/url?q=https://hive.example/a&sa=D", "https://hive.example/a"),
        ] {
            assert_eq!(written(rewritten).as_deref(), Some(link), "{rewritten}");
        }
    }

    #[test]
    fn links_in_a_text_are_given_back_where_they_stand() {
        let safe = "https://eur02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fx.example%2F7&data=05";
        assert_eq!(
            restored(&format!("See <{safe}>, or ({safe}).\n{safe}")).unwrap(),
            "See <https://x.example/7>, or (https://x.example/7).\nhttps://x.example/7"
        );
        assert_eq!(restored("https://x.example/?url=https%3A%2F%2Fy.example https://"), None);
        assert_eq!(restored(&format!("https://x.example/7/<{safe}> x")).unwrap(), "https://x.example/7/ x");
    }

    #[test]
    fn what_is_no_link_is_not_given_back() {
        for inner in [
            "javascript%3Aalert(1)",
            "https%3A%2F%2Fa%0Ab.example",
            "https%3A%2F%2Fa%20b.example",
            "https%3A%2F%2Fa%E2%80%AEb.example",
            "",
            "%FF",
        ] {
            assert_eq!(
                written(&format!("https://a.safelinks.protection.outlook.com/?url={inner}&data=1")),
                None,
                "{inner}"
            );
        }
        assert_eq!(
            written("https://safelinks.protection.outlook.com.evil.example/?url=https%3A%2F%2Fx.example"),
            None
        );
    }

    #[test]
    fn a_link_that_was_rewritten_twice_is_given_back_as_it_was() {
        let once = "https://eur02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fx.example%2F7";
        let encoded = once
            .replace('%', "%25")
            .replace(':', "%3A")
            .replace('/', "%2F")
            .replace('?', "%3F")
            .replace('=', "%3D");
        let twice = format!("https://secure-web.cisco.com/1a/{encoded}");
        assert_eq!(written(&twice).as_deref(), Some("https://x.example/7"));
    }
}
