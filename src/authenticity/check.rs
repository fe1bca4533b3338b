//! The check of one mail, by mail-auth: what it signs, what its domains say, within bounds that a hostile mail
//! cannot leave.
//!
//! A signature that is valid need not prove anything: one that leaves out the subject, or lets text be added
//! to the body, can be carried over to another mail. Such a one is `policy`, not `pass`.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use mail_auth::dkim::DkimError;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::spf::{Directive, Mechanism, Qualifier, Spf};
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, Error, MX, MessageAuthenticator, Parameters,
    RecordSet, SpfOutput, SpfResult, Txt, dkim, dmarc,
};
use memchr::memmem;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};

use crate::mail::{Authenticity, Header, Policy, Verdict, domain_of};

use super::cover::Cover;
use super::fields::fields;
use super::resolver::{Records, Resolver};
use super::seal;

/// Largest header that is checked, in bytes. Postfix takes 100 KiB.
const HEADER_LIMIT: usize = 128 * 1024;

/// Longest From field that is read, in bytes: its parser takes quadratic time on some malformed input.
const FROM_LIMIT: usize = 8 * 1024;

/// Most DKIM signatures that are checked, from the top: each may cost a DNS lookup and a signature
/// verification. Real mails have up to four.
const SIGNATURE_LIMIT: usize = 8;

/// Most ARC sets that are checked; each seal is verified over all below it. RFC 8617 section 4.2.1 allows 50.
const CHAIN_LIMIT: usize = 10;

/// Most fields that a signature may name; finding them takes quadratic time. Real ones name up to forty.
const NAME_LIMIT: usize = 200;

/// A content above this many bytes is hashed on a thread of its own.
const INLINE_LIMIT: usize = 128 * 1024;

/// Who vouches for this mail?
pub(super) struct Question {
    /// The client's address; none if it does not tell of the sender.
    pub(super) address: Option<IpAddr>,
    pub(super) helo: String,
    pub(super) reverse_path: String,
    pub(super) content: Bytes,
    pub(super) received_at: Timestamp,
    pub(super) timeout: Duration,
    /// Whose seals count.
    pub(super) sealers: Vec<String>,
}

/// Answers in a task of its own, so that neither a panic nor a large mail harms the session.
pub(super) async fn on_its_own(resolver: Resolver, question: Question) -> Result<Authenticity, JoinError> {
    if question.content.len() <= INLINE_LIMIT {
        return tokio::spawn(async move { question.answer(&resolver).await }).await;
    }
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(question.answer(&resolver))).await
}

impl Question {
    async fn answer(&self, resolver: &Resolver) -> Authenticity {
        let Some(message) = readable(&self.content) else {
            return Authenticity::all(Verdict::PermError);
        };
        let Some(authenticator) = resolver.authenticator() else {
            return Authenticity::all(Verdict::TempError);
        };
        if !resolver.is_worth_asking(self.received_at, self.timeout).await {
            return Authenticity::all(Verdict::TempError);
        }
        let found = self.find_out(message, authenticator, resolver).await;
        let unanswered = [found.spf, found.dkim, found.dmarc, found.arc].contains(&Verdict::TempError);
        resolver.checked(!unanswered, self.received_at, self.timeout).await;
        found
    }

    async fn find_out(
        &self,
        mut message: AuthenticatedMessage<'_>,
        authenticator: &MessageAuthenticator,
        resolver: &Resolver,
    ) -> Authenticity {
        let deadline = Instant::now() + self.timeout;
        let asked = Asked { authenticator, resolver, deadline };
        let header = Header::read(&self.content);
        let cover = Cover::of(&header, &message, &self.content);
        let unusable = bound(&mut message);
        let (spf, dkim, arc) =
            tokio::join!(self.spf(&asked), asked.dkim(&message, &cover, unusable), asked.arc(&message));
        let mut found = Authenticity {
            spf: spf.as_ref().map_or(Verdict::None, |output| spf_verdict(output.result())),
            dkim: dkim.verdict,
            dkim_domains: dkim.domains(),
            arc,
            ..Authenticity::default()
        };
        let dmarc = asked.dmarc(&message, &dkim, spf.as_ref()).await;
        found.dmarc = dmarc.verdict;
        found.policy = dmarc.policy;
        // Ours, as rules see it: where mail-auth reads another domain, nothing is proven.
        let Some(from) =
            domain_of(&header.from()).filter(|ours| domain_of_froms(&message).as_ref() == Some(ours))
        else {
            return found;
        };
        if let Some(signature) = dkim.proof(&from, &dmarc) {
            found.by_signature(&header, signature, &cover);
            found.proven = Some(from);
        } else if let Some(spf) = spf.filter(|_| dmarc.by_spf)
            && asked.is_of_its_own(spf.domain(), self.address).await
        {
            found.proven = Some(from);
        } else if arc == Verdict::Pass
            && let Some(sealed) = seal::vouched(&header, &message, &cover, &from, &self.sealers)
        {
            (found.sealer, found.signature) = (Some(sealed.by), Some(sealed.signature));
            (found.signed_at, found.unsigned) = (sealed.signed_at, sealed.unsigned);
            found.proven = Some(from);
        }
        found
    }

    /// SPF for the reverse-path, or for the name in HELO where there is none (RFC 7208 section 2.4).
    async fn spf(&self, asked: &Asked<'_>) -> Option<SpfOutput> {
        // The name of the host that checks, which is shown to senders; RFC 7208 section 7.3.
        const HOST: &str = "unknown";
        let address = self.address?.to_canonical();
        let parameters = if self.reverse_path.is_empty() {
            SpfParameters::verify_ehlo(address, &self.helo, HOST)
        } else {
            SpfParameters::verify_mail_from(address, &self.helo, HOST, &self.reverse_path)
        };
        let check = asked.authenticator.verify_spf(asked.with(parameters));
        let late = || {
            let domain = self.reverse_path.rsplit_once('@').map_or(&*self.helo, |(_, domain)| domain);
            SpfOutput::new(domain.to_owned()).with_result(SpfResult::TempError)
        };
        Some(timeout_at(asked.deadline, check).await.unwrap_or_else(|_| late()))
    }
}

/// The parsed message, if its header is within the bounds.
pub(super) fn readable(content: &[u8]) -> Option<AuthenticatedMessage<'_>> {
    let head = &content[..content.len().min(HEADER_LIMIT)];
    let ends = [&b"\n\r\n"[..], b"\n\n"].into_iter().filter_map(|end| memmem::find(head, end));
    let end = match ends.min() {
        Some(end) => end,
        None if content.len() <= HEADER_LIMIT => content.len(),
        None => return None,
    };
    let from_is_long = |line: &[u8]| line.len() > FROM_LIMIT && line[..5].eq_ignore_ascii_case(b"from:");
    if fields(&head[..end]).any(from_is_long) {
        return None;
    }
    AuthenticatedMessage::parse(content)
}

/// Leaves of the signatures as many as may be checked. Returns whether one was left out for what it demands.
pub(super) fn bound(message: &mut AuthenticatedMessage<'_>) -> bool {
    let before = message.dkim_headers.len();
    message.dkim_headers.retain(|signature| signature.header.h.len() <= NAME_LIMIT);
    let unusable = message.dkim_headers.len() < before;
    message.dkim_headers.truncate(SIGNATURE_LIMIT);
    unusable
}

/// The resolver to ask, and the deadline.
struct Asked<'a> {
    authenticator: &'a MessageAuthenticator,
    resolver: &'a Resolver,
    deadline: Instant,
}

/// mail-auth's parameters with the zone in the place of its caches.
pub(super) type Asking<'a, T> = Parameters<
    'a,
    T,
    Records<Box<str>, Txt>,
    Records<Box<str>, RecordSet<MX>>,
    Records<Box<str>, RecordSet<std::net::Ipv4Addr>>,
    Records<Box<str>, RecordSet<std::net::Ipv6Addr>>,
    Records<IpAddr, RecordSet<Box<str>>>,
>;

/// These parameters for a question to `resolver`.
pub(super) fn asking<T>(resolver: &Resolver, params: T) -> Asking<'_, T> {
    let zone = resolver.zone();
    Parameters {
        params,
        cache_txt: Some(&zone.txt),
        cache_mx: Some(&zone.mx),
        cache_ptr: Some(&zone.ptr),
        cache_ipv4: Some(&zone.ipv4),
        cache_ipv6: Some(&zone.ipv6),
    }
}

/// What the signatures say.
struct Signatures<'a> {
    verdict: Verdict,
    /// Those that prove something, for DMARC, and those that might have.
    outputs: Vec<DkimOutput<'a>>,
}

impl Signatures<'_> {
    /// The domains of those that passed, each once.
    fn domains(&self) -> Vec<String> {
        let mut domains: Vec<String> = Vec::new();
        for output in self.outputs.iter().filter(|output| *output.result() == DkimResult::Pass) {
            if let Some(signature) = output.signature() {
                domains.push(signature.d.trim_end_matches('.').to_lowercase());
            }
        }
        domains.sort();
        domains.dedup();
        domains
    }

    /// The signature that proves that the mail is from this domain.
    fn proof(&self, from: &str, dmarc: &Published) -> Option<&dkim::Signature> {
        let passed = || {
            let passed = self.outputs.iter().filter(|output| *output.result() == DkimResult::Pass);
            passed.filter_map(|output| output.signature())
        };
        let by = |signature: &&dkim::Signature| {
            let signer = signature.d.trim_end_matches('.').to_lowercase();
            // A signer for a domain also signs for those below it, unless a DMARC record says otherwise.
            signer == from || (dmarc.is_unpublished && is_below(from, &signer))
        };
        // What DMARC takes for aligned may be beside the domain, too.
        let aligned = || passed().filter(|_| dmarc.by_dkim).max_by_key(|signature| alike(&signature.d, from));
        passed().find(by).or_else(aligned)
    }
}

/// How many characters two domains share at their ends.
fn alike(one: &str, other: &str) -> usize {
    let ends = one.trim_end_matches('.').bytes().rev().zip(other.bytes().rev());
    ends.take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count()
}

/// What the domain of From says.
struct Published {
    verdict: Verdict,
    policy: Option<Policy>,
    /// Whether it says nothing.
    is_unpublished: bool,
    /// Whether the mail passes by a signature, and whether by the address that it came from.
    by_dkim: bool,
    by_spf: bool,
}

impl<'a> Asked<'a> {
    fn with<T>(&self, params: T) -> Asking<'a, T> {
        asking(self.resolver, params)
    }

    async fn dkim<'m>(
        &'m self,
        message: &'m AuthenticatedMessage<'m>,
        cover: &Cover<'_>,
        unusable: bool,
    ) -> Signatures<'m> {
        if message.dkim_headers.is_empty() && !message.has_dkim_errors {
            let verdict = if unusable { Verdict::Policy } else { Verdict::None };
            return Signatures { verdict, outputs: Vec::new() };
        }
        let check = self.authenticator.verify_dkim(self.with(message));
        let Ok(mut outputs) = timeout_at(self.deadline, check).await else {
            return Signatures { verdict: Verdict::TempError, outputs: Vec::new() };
        };
        let mut verdicts: Vec<Verdict> = outputs.iter().map(|output| dkim_verdict(output.result())).collect();
        if unusable {
            verdicts.push(Verdict::Policy);
        }
        for (output, verdict) in outputs.iter().zip(&mut verdicts) {
            if *verdict == Verdict::Pass
                && !output.signature().is_some_and(|signature| cover.is_by(signature))
            {
                *verdict = Verdict::Policy;
            }
        }
        let mut at = 0;
        outputs.retain(|_| {
            at += 1;
            matches!(verdicts[at - 1], Verdict::Pass | Verdict::TempError)
        });
        // The best of them; where none could even be read, it is the mail that is wrong.
        const BEST_FIRST: [Verdict; 6] = [
            Verdict::Pass,
            Verdict::Policy,
            Verdict::TempError,
            Verdict::Fail,
            Verdict::PermError,
            Verdict::Neutral,
        ];
        let best = BEST_FIRST.into_iter().find(|verdict| verdicts.contains(verdict));
        Signatures { verdict: best.unwrap_or(Verdict::PermError), outputs }
    }

    async fn arc(&self, message: &AuthenticatedMessage<'_>) -> Verdict {
        let sets = [message.as_headers.len(), message.ams_headers.len(), message.aar_headers.len()];
        let names = message.ams_headers.iter().all(|signature| signature.header.h.len() <= NAME_LIMIT);
        if sets == [0; 3] && !message.has_arc_errors {
            return Verdict::None;
        }
        if sets.into_iter().any(|count| count > CHAIN_LIMIT) || !names {
            return Verdict::PermError;
        }
        let check = self.authenticator.verify_arc(self.with(message));
        match timeout_at(self.deadline, check).await {
            Ok(output) => match dkim_verdict(output.result()) {
                // RFC 8617 section 4.4 knows none, pass and fail.
                Verdict::Neutral | Verdict::Policy => Verdict::Fail,
                verdict => verdict,
            },
            Err(_) => Verdict::TempError,
        }
    }

    async fn dmarc(
        &self,
        message: &AuthenticatedMessage<'_>,
        dkim: &Signatures<'_>,
        spf: Option<&SpfOutput>,
    ) -> Published {
        let unknown = SpfOutput::default();
        let spf_output = spf.unwrap_or(&unknown);
        let parameters = DmarcParameters::new(message, &dkim.outputs, spf_output.domain(), spf_output);
        let check = self.authenticator.verify_dmarc(self.with(parameters));
        let Ok(output) = timeout_at(self.deadline, check).await else {
            let (verdict, policy) = (Verdict::TempError, None);
            return Published { verdict, policy, is_unpublished: false, by_dkim: false, by_spf: false };
        };
        let passes =
            |result: &DmarcResult| *result == DmarcResult::Pass && output.result() == DmarcResult::Pass;
        let (by_dkim, by_spf) = (passes(output.dkim_result()), passes(output.spf_result()));
        let verdict = match output.result() {
            DmarcResult::Pass => Verdict::Pass,
            DmarcResult::TempError(_) => Verdict::TempError,
            DmarcResult::PermError(_) => Verdict::PermError,
            DmarcResult::None => Verdict::None,
            // What was not asked, or not answered, might have passed.
            DmarcResult::Fail(_) if dkim.verdict == Verdict::TempError => Verdict::TempError,
            DmarcResult::Fail(_) if spf.is_none() => Verdict::None,
            DmarcResult::Fail(_) => Verdict::Fail,
        };
        let policy = output.dmarc_record().map(|_| match output.policy() {
            dmarc::Policy::Reject => Policy::Reject,
            dmarc::Policy::Quarantine => Policy::Quarantine,
            dmarc::Policy::None | dmarc::Policy::Unspecified => Policy::None,
        });
        let is_unpublished = policy.is_none() && verdict == Verdict::None;
        Published { verdict, policy, is_unpublished, by_dkim, by_spf }
    }

    /// Whether a domain's SPF record lists `address` itself. One that another domain's record lists, which it only
    /// includes, is a provider's: the provider's other customers send from there as well.
    async fn is_of_its_own(&self, domain: &str, address: Option<IpAddr>) -> bool {
        let Some(address) = address.map(|address| address.to_canonical()) else { return false };
        let name = format!("{}.", domain.trim_end_matches('.').to_lowercase());
        let asked = self.authenticator.txt_lookup::<Spf>(name.as_str(), Some(&self.resolver.zone().txt));
        let Ok(Ok(record)) = timeout_at(self.deadline, asked).await else { return false };
        let own = |directive: &Directive| match (&directive.mechanism, address) {
            (Mechanism::Ip4 { addr, mask }, IpAddr::V4(address)) => {
                u32::from(*addr) & mask == u32::from(address) & mask
            }
            (Mechanism::Ip6 { addr, mask }, IpAddr::V6(address)) => {
                u128::from(*addr) & mask == u128::from(address) & mask
            }
            _ => false,
        };
        let passes = || record.directives.iter().filter(|directive| directive.qualifier == Qualifier::Pass);
        let of_others = |directive: &Directive| {
            matches!(
                directive.mechanism,
                Mechanism::Include { .. } | Mechanism::Exists { .. } | Mechanism::Ptr { .. } | Mechanism::All
            )
        };
        passes().any(own) || (record.redirect.is_none() && !passes().any(of_others))
    }
}

/// The one domain of From as mail-auth reads it.
fn domain_of_froms(message: &AuthenticatedMessage<'_>) -> Option<String> {
    let mailbox = |from: &String| crate::mail::Address { name: String::new(), address: from.clone() };
    domain_of(&message.from.iter().map(mailbox).collect::<Vec<_>>())
}

/// Whether `domain` is below `upper`, which is no top-level domain.
pub(super) fn is_below(domain: &str, upper: &str) -> bool {
    upper.contains('.') && domain.strip_suffix(upper).is_some_and(|sub| sub.ends_with('.'))
}

fn spf_verdict(result: SpfResult) -> Verdict {
    match result {
        SpfResult::Pass => Verdict::Pass,
        SpfResult::Fail => Verdict::Fail,
        SpfResult::SoftFail => Verdict::SoftFail,
        SpfResult::Neutral => Verdict::Neutral,
        SpfResult::TempError => Verdict::TempError,
        SpfResult::PermError => Verdict::PermError,
        SpfResult::None => Verdict::None,
    }
}

fn dkim_verdict(result: &DkimResult) -> Verdict {
    match result {
        DkimResult::Pass => Verdict::Pass,
        // A part of the body is not signed (RFC 6376 section 8.2).
        DkimResult::Neutral(Error::Dkim(DkimError::SignatureLength)) => Verdict::Policy,
        DkimResult::Neutral(_) => Verdict::Neutral,
        DkimResult::Fail(_) => Verdict::Fail,
        DkimResult::PermError(_) => Verdict::PermError,
        DkimResult::TempError(_) => Verdict::TempError,
        DkimResult::None => Verdict::None,
    }
}
