//! The check of one mail, by mail-auth: what it signs, what its domains say, within bounds that a hostile mail
//! cannot leave.
//!
//! A signature that is valid need not prove anything: one that leaves out the subject, or lets text be added
//! to the body, can be carried over to another mail. Such a one is `policy`, not `pass`.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use mail_auth::common::crypto::Algorithm;
use mail_auth::dkim::DkimError;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, Error, MX, MessageAuthenticator, Parameters,
    RecordSet, SpfOutput, SpfResult, Txt, dkim, dmarc,
};
use memchr::memmem;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};

use crate::mail::{Authenticity, Header, Policy, Verdict, domain_of};

use super::resolver::{Records, Resolver};

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

/// Fields that RFC 5322 section 3.6 and RFC 2045 allow once. Where one stands twice, a signature may cover
/// the one and rules read the other.
const SINGLE: [&str; 13] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
];

/// Fields that a signature must cover where they are there, so that it proves what rules go by. SIGNL4's own
/// parameters are among them: see [`must_be_signed`].
const SIGNED: [&str; 4] = ["from", "subject", "in-reply-to", "references"];

/// Who vouches for this mail?
pub(super) struct Question {
    /// The client's address; none if it does not tell of the sender.
    pub(super) address: Option<IpAddr>,
    pub(super) helo: String,
    pub(super) reverse_path: String,
    pub(super) content: Bytes,
    pub(super) received_at: Timestamp,
    pub(super) timeout: Duration,
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
        let cover = Cover::of(&header, &message);
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
        let from = domain_of(&header.from()).filter(|ours| domain_of_froms(&message).as_ref() == Some(ours));
        found.proven = from.filter(|from| {
            found.dmarc == Verdict::Pass
                || found.dkim_domains.iter().any(|signer| {
                    // Whoever signs for a domain rules over those below it, unless a record says otherwise.
                    signer == from || (dmarc.is_unpublished && is_below(from, signer))
                })
        });
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
fn readable(content: &[u8]) -> Option<AuthenticatedMessage<'_>> {
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

/// The fields of a header, each with its continuation lines.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = memchr::memchr_iter(b'\n', rest).map(|at| at + 1);
        let end =
            ends.into_iter().find(|&at| !matches!(rest.get(at), Some(b' ' | b'\t'))).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        rest = after;
        Some(field)
    })
}

/// Leaves of the signatures as many as may be checked. Returns whether one was left out for what it demands.
fn bound(message: &mut AuthenticatedMessage<'_>) -> bool {
    let before = message.dkim_headers.len();
    message.dkim_headers.retain(|signature| signature.header.h.len() <= NAME_LIMIT);
    let unusable = message.dkim_headers.len() < before;
    message.dkim_headers.truncate(SIGNATURE_LIMIT);
    unusable
}

/// What a signature must cover to prove anything about the mail.
struct Cover {
    /// Lower-case names of the fields.
    names: Vec<String>,
    /// Whether a signature can prove anything: the mail has one header, read alike by us and by mail-auth,
    /// and each of its fields is there but once.
    sound: bool,
}

impl Cover {
    fn of(header: &Header<'_>, message: &AuthenticatedMessage<'_>) -> Self {
        let names: Vec<&str> = header.names().collect();
        let alike =
            names.iter().map(|name| name.as_bytes()).eq(message.headers.iter().map(|(name, _)| *name));
        let count = |single: &str| names.iter().filter(|name| name.eq_ignore_ascii_case(single)).count();
        let sound = alike && count("from") == 1 && SINGLE.iter().all(|single| count(single) <= 1);
        let mut needed: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        needed.retain(|name| must_be_signed(name));
        let several = needed.len();
        needed.sort();
        needed.dedup();
        Self { sound: sound && needed.len() == several, names: needed }
    }

    /// Whether `signature` covers what it must, by an algorithm that is still good (RFC 8301 section 3.1).
    fn is_by(&self, signature: &dkim::Signature) -> bool {
        let signs = |name: &String| signature.h.iter().any(|signed| signed.eq_ignore_ascii_case(name));
        self.sound && signature.a != Algorithm::RsaSha1 && self.names.iter().all(signs)
    }
}

fn must_be_signed(name: &str) -> bool {
    SIGNED.contains(&name) || name.starts_with("x-s4-")
}

/// Whom to ask, and until when.
struct Asked<'a> {
    authenticator: &'a MessageAuthenticator,
    resolver: &'a Resolver,
    deadline: Instant,
}

/// mail-auth's parameters with the zone in the place of its caches.
type Asking<'a, T> = Parameters<
    'a,
    T,
    Records<Box<str>, Txt>,
    Records<Box<str>, RecordSet<MX>>,
    Records<Box<str>, RecordSet<std::net::Ipv4Addr>>,
    Records<Box<str>, RecordSet<std::net::Ipv6Addr>>,
    Records<IpAddr, RecordSet<Box<str>>>,
>;

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
}

/// What the domain of From says.
struct Published {
    verdict: Verdict,
    policy: Option<Policy>,
    /// Whether it says nothing.
    is_unpublished: bool,
}

impl<'a> Asked<'a> {
    fn with<T>(&self, params: T) -> Asking<'a, T> {
        let zone = self.resolver.zone();
        Parameters {
            params,
            cache_txt: Some(&zone.txt),
            cache_mx: Some(&zone.mx),
            cache_ptr: Some(&zone.ptr),
            cache_ipv4: Some(&zone.ipv4),
            cache_ipv6: Some(&zone.ipv6),
        }
    }

    async fn dkim<'m>(
        &'m self,
        message: &'m AuthenticatedMessage<'m>,
        cover: &Cover,
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
        let output = spf.unwrap_or(&unknown);
        let parameters = DmarcParameters::new(message, &dkim.outputs, output.domain(), output);
        let check = self.authenticator.verify_dmarc(self.with(parameters));
        let Ok(output) = timeout_at(self.deadline, check).await else {
            return Published { verdict: Verdict::TempError, policy: None, is_unpublished: false };
        };
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
        Published { verdict, policy, is_unpublished: policy.is_none() && verdict == Verdict::None }
    }
}

/// The one domain of From as mail-auth reads it.
fn domain_of_froms(message: &AuthenticatedMessage<'_>) -> Option<String> {
    let mailbox = |from: &String| crate::mail::Address { name: String::new(), address: from.clone() };
    domain_of(&message.from.iter().map(mailbox).collect::<Vec<_>>())
}

/// Whether `domain` is below `upper`, which is no top-level domain.
fn is_below(domain: &str, upper: &str) -> bool {
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
        // A part of the body that nobody signed (RFC 6376 section 8.2).
        DkimResult::Neutral(Error::Dkim(DkimError::SignatureLength)) => Verdict::Policy,
        DkimResult::Neutral(_) => Verdict::Neutral,
        DkimResult::Fail(_) => Verdict::Fail,
        DkimResult::PermError(_) => Verdict::PermError,
        DkimResult::TempError(_) => Verdict::TempError,
        DkimResult::None => Verdict::None,
    }
}
