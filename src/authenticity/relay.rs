//! What the relay in front found out: its Authentication-Results (RFC 8601), and which of them can be its own.
//!
//! Anybody can write such a field into a mail. The relay's own stand on top of what it received. Its Received
//! field tells where that was: the first such field that names a client outside the trusted networks was
//! written by the machine at which the mail came in, and all above it by trusted ones. A field below it may be
//! that machine's as well, as mail filters under Postfix write theirs there, or the sender's: it counts only if
//! the site says that the machine takes out what others wrote under its name.
//!
//! The relay says whether a signature is valid. It does not look at what it covers: a valid one that leaves the subject
//! out can be carried over to any other. So its word on a signature counts only if that signature covers here what one that
//! is verified here must cover (see [`super::cover`]). A DMARC result counts if such a signature stands behind it, or SPF.

use std::borrow::Cow;

use base64ct::{Base64, Encoding};
use mail_auth::dkim;

use crate::mail::{Authenticity, Header, Hop, Verdict, domain_of};
use crate::network::Network;

use super::check;
use super::check::is_below;
use super::config::Config;
use super::cover::Cover;
use super::results::{MethodResult, Results};

/// What the relays with a configured authserv-id found out; none if they say nothing.
pub(super) fn read(
    header: &Header<'_>,
    content: &[u8],
    config: &Config,
    trusted: &[Network],
) -> Option<Authenticity> {
    let fields: Vec<(&str, Cow<'_, str>)> = header.fields().collect();
    let mut told: Option<Told> = None;
    for (name, value) in believed(&fields, config.relay_removes_forged, trusted) {
        if !name.eq_ignore_ascii_case("authentication-results") {
            continue;
        }
        let Some(results) = Results::read(value) else { continue };
        if let Some(id) = config.authserv_ids.iter().find(|id| id.eq_ignore_ascii_case(&results.id)) {
            let told = told.get_or_insert_with(Told::default);
            told.found.by.get_or_insert_with(|| id.clone());
            results.list.iter().for_each(|result| told.add(result));
        }
    }
    Some(told?.proof(header, content))
}

/// What relays say.
#[derive(Default)]
struct Told {
    found: Authenticity,
    /// The domain for which DMARC passed.
    author: Option<String>,
    /// The domain for which SPF passed.
    sender: Option<String>,
    signers: Vec<Signer>,
}

/// A signature that a relay found valid.
struct Signer {
    domain: String,
    /// As far as the relay tells them (RFC 6008 and RFC 8601 section 2.7.1).
    selector: Option<String>,
    start: Option<String>,
}

impl Told {
    fn add(&mut self, result: &MethodResult) {
        let found = &mut self.found;
        // The topmost field is the latest word.
        let first = |verdict: &mut Verdict| {
            let first = *verdict == Verdict::None;
            if first {
                *verdict = result.verdict;
            }
            first
        };
        let passes = result.verdict == Verdict::Pass;
        match result.method.as_str() {
            "spf" if first(&mut found.spf) && passes => {
                let sender = result.property("smtp.mailfrom").or(result.property("smtp.helo"));
                self.sender = sender.map(domain);
            }
            "arc" => _ = first(&mut found.arc),
            "dmarc" if first(&mut found.dmarc) && passes => {
                self.author = result.property("header.from").map(domain);
            }
            "dkim" => {
                if found.dkim != Verdict::Pass {
                    found.dkim = result.verdict;
                }
                let signer = result.property("header.d").or(result.property("header.i"));
                if let Some(domain) = signer.map(domain).filter(|domain| passes && !domain.is_empty()) {
                    let property = |name| result.property(name).map(str::to_owned);
                    self.signers.push(Signer {
                        domain,
                        selector: property("header.s"),
                        start: property("header.b").map(|b| b.trim_end_matches('=').to_owned()),
                    });
                }
            }
            _ => {}
        }
    }

    /// What that proves: the relay says which signature is valid, and here is looked at what it covers.
    fn proof(mut self, header: &Header<'_>, content: &[u8]) -> Authenticity {
        let mut message = check::readable(content);
        // Which of several signatures of one domain the relay means is not always told: then all must do.
        let unusable =
            message.as_mut().is_some_and(|message| check::bound(message) || message.has_dkim_errors);
        let cover = message.as_ref().map(|message| Cover::of(header, message, content));
        let signatures = message.as_ref().map_or(&[][..], |message| &message.dkim_headers);
        let covering = |is_meant: &dyn Fn(&dkim::Signature) -> bool| {
            let mut meant = signatures.iter().map(|signature| &signature.header).filter(|one| is_meant(one));
            let first = meant.next()?;
            let cover = cover.as_ref()?;
            (cover.is_by(first) && meant.all(|other| cover.is_by(other))).then_some(first)
        };
        let mut proofs: Vec<(String, &dkim::Signature)> = Vec::new();
        for signer in &self.signers {
            let is_meant = |signature: &dkim::Signature| {
                domain(&signature.d) == signer.domain
                    && signer.selector.as_ref().is_none_or(|selector| *selector == signature.s)
                    && signer
                        .start
                        .as_ref()
                        .is_none_or(|start| Base64::encode_string(&signature.b).starts_with(start.as_str()))
            };
            if let Some(signature) = covering(&is_meant) {
                proofs.push((signer.domain.clone(), signature));
            }
        }
        let mut found = self.found;
        if found.dkim == Verdict::Pass && proofs.is_empty() {
            found.dkim = Verdict::Policy;
        }
        let from = domain_of(&header.from());
        let author = self.author.take().filter(|author| Some(author) == from.as_ref());
        if let Some(from) = from {
            let related = |signer: &str| {
                signer == from || (author.is_some() && (is_below(&from, signer) || is_below(signer, &from)))
            };
            let by_spf = self.sender.is_some_and(|sender| sender == from || is_below(&sender, &from));
            // DMARC passes by a signature or by SPF: where there is no signature, it was SPF.
            let unsigned = signatures.is_empty() && !unusable && self.signers.is_empty();
            if let Some((_, signature)) = proofs.iter().find(|(signer, _)| related(signer))
                && let Some(cover) = &cover
            {
                found.by_signature(header, signature, cover);
                found.proven = Some(from);
            } else if author.is_some() && (by_spf || unsigned) {
                found.proven = Some(from);
            } else if author.is_some() {
                // It passed by a signature that anybody can carry over to another mail.
                found.dmarc = Verdict::Policy;
            }
        }
        found.dkim_domains = proofs.into_iter().map(|(signer, _)| signer).collect();
        found.dkim_domains.sort();
        found.dkim_domains.dedup();
        found
    }
}

/// The fields that stand where only trusted machines write.
fn believed<'f>(
    fields: &'f [(&'f str, Cow<'f, str>)],
    relay_removes_forged: bool,
    trusted: &[Network],
) -> &'f [(&'f str, Cow<'f, str>)] {
    let is_hop = |field: &(&str, Cow<'_, str>)| field.0.eq_ignore_ascii_case("received");
    let hops: Vec<usize> = (0..fields.len()).filter(|&at| is_hop(&fields[at])).collect();
    let entry = hops.iter().position(|&at| !Hop::read(&fields[at].1).is_within(trusted));
    let end = match entry {
        // Down to the next hop, which was written before the mail came in.
        Some(hop) if relay_removes_forged => hops.get(hop + 1).copied().unwrap_or(fields.len()),
        Some(hop) => hops[hop],
        None if relay_removes_forged => fields.len(),
        // A mail without a hop has passed no relay: its fields are its sender's.
        None => hops.last().copied().unwrap_or(0),
    };
    &fields[..end]
}

/// The domain of an address, or the name itself, in lower case.
fn domain(text: &str) -> String {
    let domain = text.rsplit_once('@').map_or(text, |(_, domain)| domain);
    domain.trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAYED: &str = "Received: from out.example (out.example [203.0.113.9]) by mx.example.org; now\n";

    const SIGNED: &str = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s; t=1700000000;\n h=from:subject; bh=dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=; b=c2lnbmF0dXJl\n";

    fn config() -> Config {
        Config { authserv_ids: vec!["mx.example.org".into()], ..Config::default() }
    }

    fn of(content: &str, config: &Config) -> Option<Authenticity> {
        let content = content.replace('\n', "\r\n");
        read(&Header::read(content.as_bytes()), content.as_bytes(), config, &Network::private())
    }

    #[test]
    fn the_relays_word_above_its_own_received_field_counts() {
        let content = format!(
            "Authentication-Results: MX.example.org; dmarc=pass (p=reject) header.from=Example.org;\n dkim=pass header.d=example.org; spf=softfail; arc=none\n{RELAYED}{SIGNED}From: a@example.org\n\n"
        );
        let found = of(&content, &config()).unwrap();
        assert_eq!((found.dmarc, found.dkim, found.spf), (Verdict::Pass, Verdict::Pass, Verdict::SoftFail));
        assert_eq!(found.dkim_domains, ["example.org"]);
        assert_eq!(
            (found.by.as_deref(), found.proven.as_deref()),
            (Some("mx.example.org"), Some("example.org"))
        );
    }

    #[test]
    fn a_result_for_another_domain_proves_nothing() {
        for result in [
            "dmarc=pass header.from=example.net",
            "dmarc=pass",
            "dkim=pass header.d=evil.example",
            "dkim=pass header.i=a@sub.example.org",
            "dmarc=fail header.from=example.org",
        ] {
            let content = format!(
                "Authentication-Results: mx.example.org; {result}\n{RELAYED}{SIGNED}From: a@example.org\n\n"
            );
            assert_eq!(of(&content, &config()).unwrap().proven, None, "{result}");
        }
    }

    /// What the relay's word on a signature proves of a mail with this header, and of which signature.
    fn proof(results: &str, header: &str) -> (Option<String>, Option<String>) {
        let content =
            format!("Authentication-Results: mx.example.org; {results}\n{RELAYED}{header}\nIt is well.\n");
        let found = of(&content, &config()).unwrap();
        (found.proven, found.signature)
    }

    const DKIM: &str = "dkim=pass header.d=example.org; dmarc=pass header.from=example.org";

    #[test]
    fn the_relays_word_on_a_signature_counts_if_it_covers_what_rules_go_by() {
        let mail = format!("{SIGNED}From: a@example.org\nSubject: Resolved\n");
        let (proven, signature) = proof(DKIM, &mail);
        assert_eq!(proven.as_deref(), Some("example.org"));
        assert_eq!(signature.map(|hash| hash.len()), Some(32));
        let content = format!("Authentication-Results: mx.example.org; {DKIM}\n{RELAYED}{mail}\nx\n");
        assert_eq!(of(&content, &config()).unwrap().signed_at.unwrap().as_second(), 1_700_000_000);

        let other = |from: &str, to: &str| mail.replace(from, to);
        for (mail, why) in [
            (other("h=from:subject", "h=from:date"), "the subject is not signed"),
            (format!("{mail}Subject: Resolved: all\n"), "a second subject"),
            (format!("{mail}X-S4-Status: resolved\n"), "a parameter that nobody signed"),
            (other("h=from", "l=3; h=from"), "a part of the body"),
            (other("rsa-sha256", "rsa-sha1"), "an algorithm that is broken"),
            (other("d=example.org", "d=evil.example"), "a signature of another domain"),
            (mail.replacen(SIGNED, "", 1), "a signature that is not there"),
            (
                format!("{mail}Content-Type: multipart/mixed; boundary=x\n\n--x\n\nResolved\n--x--\n"),
                "a boundary",
            ),
            (
                SIGNED.replace("h=from:subject", "h=from").replace("c2ln", "b3Ro") + &mail,
                "another signature of the domain, which may be the one that is valid",
            ),
        ] {
            assert_eq!(proof(DKIM, &mail), (None, None), "{why}");
        }
    }

    #[test]
    fn where_the_relay_says_which_signature_is_valid_that_one_counts() {
        let narrow =
            SIGNED.replace("h=from:subject", "h=from").replace("c2ln", "b3Ro").replace("s=s;", "s=other;");
        let mail = format!("{narrow}{SIGNED}From: a@example.org\nSubject: Resolved\n");
        for (results, proven) in [
            ("dkim=pass header.d=example.org header.s=s", true),
            ("dkim=pass header.d=example.org header.s=other", false),
            ("dkim=pass header.d=example.org header.b=c2lnbmF0", true),
            ("dkim=pass header.d=example.org header.b=b3RobmF0", false),
            ("dkim=pass header.d=example.org", false),
        ] {
            assert_eq!(proof(results, &mail).0.is_some(), proven, "{results}");
        }
    }

    #[test]
    fn a_dmarc_result_counts_if_such_a_signature_or_spf_stands_behind_it() {
        let mail = "From: a@example.org\nSubject: Resolved\n";
        let narrow = format!("{}{mail}", SIGNED.replace(":subject", ""));
        for (results, mail, proven) in [
            ("dmarc=pass header.from=example.org", mail, true),
            ("dmarc=pass header.from=example.org", &narrow, false),
            ("spf=pass smtp.mailfrom=b@example.org; dmarc=pass header.from=example.org", &narrow, true),
            ("spf=pass smtp.mailfrom=b@m.example.org; dmarc=pass header.from=example.org", &narrow, true),
            ("spf=pass smtp.mailfrom=b@evil.example; dmarc=pass header.from=example.org", &narrow, false),
            ("spf=pass; dmarc=pass header.from=example.org", &narrow, false),
            ("spf=pass smtp.mailfrom=b@example.org", mail, false),
        ] {
            assert_eq!(proof(results, mail).0.is_some(), proven, "{results} {mail}");
        }
        let content = format!("Authentication-Results: mx.example.org; {DKIM}\n{RELAYED}{narrow}\n");
        let found = of(&content, &config()).unwrap();
        assert_eq!((found.dkim, found.dmarc), (Verdict::Policy, Verdict::Policy), "rules are told so");
    }

    #[test]
    fn an_encoded_word_is_a_value_and_is_not_decoded() {
        let content = format!(
            "Authentication-Results: mx.example.org; spf=fail smtp.mailfrom==?utf-8?q?=3B_dmarc=3Dpass?=\n{RELAYED}From: a@example.org\n\n"
        );
        assert_eq!(of(&content, &config()).unwrap().dmarc, Verdict::None);
    }

    #[test]
    fn what_others_wrote_never_counts() {
        let forged = "Authentication-Results: mx.example.org; dmarc=pass header.from=example.org\n";
        let other = forged.replace("mx.example.org", "mx.evil.example");
        let inside = "Received: from a (a [10.0.0.1]) by b\n";
        for (content, why) in [
            (format!("{RELAYED}{forged}"), "below the field of the machine where it came in"),
            (format!("{inside}{RELAYED}{forged}"), "the same, one machine further"),
            (format!("{RELAYED}{forged}{inside}"), "with a Received field that the sender made up"),
            (format!("{inside}{forged}"), "below the last hop"),
            (forged.to_owned(), "in a mail that no relay passed on"),
            (format!("{other}{RELAYED}"), "under another name"),
            (
                format!("Received: from x by mx\n{forged}{RELAYED}"),
                "below a hop that does not say from where",
            ),
            (format!("X-{forged}{RELAYED}"), "in another field"),
        ] {
            assert_eq!(of(&format!("{content}From: a@example.org\n\n"), &config()), None, "{why}");
        }
    }

    #[test]
    fn where_the_relay_removes_forged_results_those_of_its_filters_count() {
        let config = Config { relay_removes_forged: true, ..config() };
        let own = "Authentication-Results: mx.example.org; dmarc=pass header.from=example.org\n";
        let content = format!("{RELAYED}{own}From: a@example.org\n\n");
        assert_eq!(of(&content, &config).unwrap().proven.as_deref(), Some("example.org"));
        // But what stands below a further hop was there before the mail came in.
        let older = format!("{RELAYED}{RELAYED}{own}From: a@example.org\n\n");
        assert_eq!(of(&older, &config), None);
    }

    #[test]
    fn of_two_results_the_upper_one_is_the_later() {
        let content = format!(
            "Authentication-Results: mx.example.org; dmarc=fail header.from=example.org\nAuthentication-Results: mx.example.org; dmarc=pass header.from=example.org; dkim=fail\n{RELAYED}From: a@example.org\n\n"
        );
        let found = of(&content, &config()).unwrap();
        assert_eq!((found.dmarc, found.dkim, found.proven), (Verdict::Fail, Verdict::Fail, None));
    }
}
