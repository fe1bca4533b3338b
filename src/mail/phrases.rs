//! The phrases of banners and footers that are known everywhere. A phrase is a sentence or the start of a paragraph;
//! each pattern is anchored, and matches in linear time.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::{Regex, RegexSet};

/// Longest sentence of a banner.
const SENTENCE: usize = 400;

/// Words that may stand in front of a sentence of a banner.
const LEAD: &str = r"(?:[\W_]*\b(?:caution|warning|attention|notice|important|security|alert|be careful|external|extern|ext|achtung|vorsicht|warnung|hinweis|avertissement|atenci[oó]n|attenzione|let op|waarschuwing|e-?mails?|mail|sender|message)\b[\W_]*)*";

/// Whose outside it is.
const HOME: &str = r"\b(?:organi[sz]ation|company|network|firm|universit\w+|institut\w+|corporat\w+|group|system|agency|domain|district|bank|council|us|our)\b";

fn set(patterns: &[String]) -> RegexSet {
    RegexSet::new(patterns.iter().map(|pattern| format!("(?i){pattern}"))).expect("the patterns are fixed")
}

/// Sentences that say that a mail is from outside.
static ORIGIN: LazyLock<RegexSet> = LazyLock::new(|| {
    let mail = r"(?:e-?mail|mail|message|sender|communication)";
    set(&[
        format!(
            r"^{LEAD}(?:please note:? )?(?:that )?(?:this|the following) {mail}\b.{{0,60}}\b(?:outside|external(?:ly)?|unknown|unverified|untrusted)\b.{{0,30}}(?:$|{HOME}|\b(?:sender|source|address|mail|e-?mail)\b)"
        ),
        format!(
            r"^{LEAD}.{{0,60}}\b(?:originat\w*|sent|came|comes|coming|received|arrived)\b.{{0,40}}\b(?:outside|external)\b.{{0,40}}{HOME}"
        ),
        format!(
            r"^{LEAD}(?:this is )?(?:an? )?(?:external|outside|unverified|untrusted) {mail}\b[^:]{{0,40}}$"
        ),
        format!(
            r"^[\W_]*(?:caution|warning|attention|notice|be careful)?[\W_]*\bexternal(?: {mail})?[\W_]*$"
        ),
        r"^[\W_]*\bexternal(?: (?:e-?mail|mail|message|sender))?[\W_]*[\]:!*>–—-][\W_]*(?:please|be|do not|don.t|exercise|use|think|verify|caution|vorsicht|bitte|achtung)\b".to_owned(),
        r"^[\W_]*you (?:don.t|do not) often (?:get|receive) e-?mails? from\b".to_owned(),
        r"^[\W_]*sie erhalten nicht (?:oft|häufig) e-?mails? von\b".to_owned(),
        r"^[\W_]*vous ne recevez pas souvent\b.{0,40}\bde\b".to_owned(),
        r"^[\W_]*no suele recibir (?:correos?|mensajes?)\b.{0,40}\bde\b".to_owned(),
        format!(r"^{LEAD}this {mail} is from an unusual (?:correspondent|sender)\b"),
        format!(r"^{LEAD}this sender is not\b.{{0,40}}{HOME}"),
        r"^[\W_]*some people who received this message don.t often get e-?mail from\b".to_owned(),
        format!(
            r"^{LEAD}(?:diese|die folgende|der)\b.{{0,20}}\b(?:e-?mail|mail|nachricht|absender)\b.{{0,60}}(?:\bextern\w*\b|\bau(?:ß|ss)erhalb\b|\bunbekannt\w*\b)"
        ),
        format!(r"^{LEAD}externe[rs]? (?:e-?mail|mail|nachricht|absender)\b[^:]{{0,40}}$"),
        format!(
            r"^{LEAD}(?:ce|cet) (?:message|courriel|e-?mail|mail)\b.{{0,60}}(?:\bl.ext[ée]rieur\b|\bexterne\b)"
        ),
        format!(r"^{LEAD}(?:este|el) (?:correo|mensaje|e-?mail)\b.{{0,60}}\b(?:extern[oa]|fuera|exterior)\b"),
        format!(r"^{LEAD}quest[ao] (?:e-?mail|mail|messaggio)\b.{{0,60}}\bestern[oa]\b"),
        format!(r"^{LEAD}(?:deze|dit) (?:e-?mail|mail|bericht)\b.{{0,60}}\b(?:extern\w*|buiten)\b"),
    ])
});

fn words(words: &[&str]) -> AhoCorasick {
    AhoCorasick::builder().ascii_case_insensitive(true).build(words).expect("the words are few")
}

/// Words of which each sentence of [`ORIGIN`] has one, up to case: most texts have none and are no banner.
static OUTSIDE: LazyLock<AhoCorasick> = LazyLock::new(|| {
    words(&[
        "outside",
        "extern",
        "exterior",
        "rieur",
        "estern",
        "fuera",
        "buiten",
        "erhalb",
        "unknown",
        "unbekannt",
        "unverified",
        "untrusted",
        "unusual",
        "often",
        "souvent",
        "suele",
        "sender is not",
        "erhalten nicht",
    ])
});

/// Sentences that say what to do with such a mail, and words that only draw attention.
static ADVICE: LazyLock<RegexSet> = LazyLock::new(|| {
    set(&[
        format!(r"^{LEAD}$"),
        r"^[\W_]*learn why this is important\W*$".to_owned(),
        r"^[\W_]*erfahren sie,? warum dies wichtig ist\W*$".to_owned(),
        r"^[\W_]*(?:découvrez )?pourquoi c.est important\W*$".to_owned(),
        r"^[\W_]*(?:descubra )?por qué (?:es|esto es) importante\W*$".to_owned(),
        r"^[\W_]*you have not previously corresponded with this sender$".to_owned(),
        r"^[\W_]*make sure this is someone you trust$".to_owned(),
        format!(
            r"^{LEAD}(?:please |so |and )*(?:do not|don.t|never|avoid|be (?:careful|cautious|wary|vigilant)|exercise|use|take|think|stop|verify|treat|report|if|unless|only|before|when|make sure|ensure|contact|click|for more)\b.*\b(?:click\w*|open\w*|links?|attach\w*|files?|repl(?:y|ies|ying)|sender|content|information|credentials?|passwords?|suspicious|phish\w*|caution|safe|trust\w*|recogni[sz]e|help ?desk)\b"
        ),
        format!(
            r"^{LEAD}(?:bitte )?(?:klicken|öffnen|seien|prüfen|achten|wenn|leiten|geben|antworten)\b.*(?:\blinks?\b|anh(?:ä|ae)ng|absender|inhalt|vorsichtig|dateien|verdächtig)"
        ),
        format!(
            r"^{LEAD}(?:ne|n.|veuillez|merci|soyez|évitez)\b.*(?:\bliens?\b|pi[èe]ces? jointes?|exp[ée]diteur|pruden)"
        ),
        format!(r"^{LEAD}(?:no|por favor|tenga|evite|verifique)\b.*(?:enlace|adjunto|remitente)"),
        format!(r"^{LEAD}(?:klik|open|wees|controleer)\b.*(?:\blinks?\b|bijlage|afzender|voorzichtig)"),
        format!(r"^{LEAD}(?:non|prestare|verificare)\b.*(?:\blink\b|allegat|mittente)"),
    ])
});

/// Starts of paragraphs that stand below a mail.
static FOOTER: LazyLock<RegexSet> = LazyLock::new(|| {
    set(&[
        r"^\W*(?:this|the (?:information|content\w*)(?: contained)? (?:of|in) this|any) (?:e-?mail|mail|message|communication|transmission)\b.{0,200}\b(?:confidential|privileged|intended (?:only|solely|exclusively|for)|addressee|named recipient|intended recipient|proprietary)\b".to_owned(),
        r"^\W*(?:confidentiality (?:notice|note|warning|statement)|(?:e-?mail |legal )?disclaimer|legal notice|notice of confidentiality|(?:privileged|private|strictly private) (?:and|&|/) confidential)\b".to_owned(),
        r"^\W*if you (?:are not|have received|received)\b.{0,80}\b(?:intended recipient|this (?:e-?mail|message)|in error|by mistake)\b".to_owned(),
        r"^\W*please (?:consider|think)\b.{0,60}\b(?:environment|print\w*)\b".to_owned(),
        r"^\W*(?:diese|die in dieser) (?:e-?mail|mail|nachricht)\b.{0,200}(?:\bvertraulich|\bausschlie(?:ß|ss)lich\b)".to_owned(),
        r"^\W*der inhalt dieser (?:e-?mail|mail|nachricht)\b.{0,120}\bvertraulich".to_owned(),
        r"^\W*ce (?:message|courriel|e-?mail|mail)\b.{0,200}\bconfidentiel".to_owned(),
        r"^\W*este (?:correo|mensaje|e-?mail)\b.{0,200}\bconfidencial".to_owned(),
        r"^\W*(?:this )?(?:e-?mail|mail|message) (?:has been |was |is )?(?:secured|scanned|virus-checked|checked (?:for|by)|protected by|filtered by)\b.{0,150}$".to_owned(),
        r"^\W*(?:scanned|secured|protected|virus-checked) (?:by|with)\b.{0,80}$".to_owned(),
        r"^\W*(?:virus-free|virenfrei)\b".to_owned(),
        r"^\W*this is an automatically generated disclaimer\b".to_owned(),
        r"^\W*sent from my (?:iphone|ipad|phone|mobile|android|samsung|blackberry|galaxy)\b.{0,30}$".to_owned(),
        r"^\W*get outlook for (?:ios|android)\b".to_owned(),
        r"^\W*(?:you (?:have )?received|you(?:.re| are) receiving) this (?:message|e-?mail) because you(?:.re| are) (?:subscribed|a member)\b.{0,120}\b(?:group|groups|list)\b".to_owned(),
        r"^\W*to unsubscribe\b.{0,300}$".to_owned(),
        r"^\W*[\w.+-]+ mailing list\b.{0,200}@".to_owned(),
    ])
});

/// Words of which each paragraph of [`FOOTER`] has one, up to case: most texts have none and no footer.
static BELOW: LazyLock<AhoCorasick> = LazyLock::new(|| {
    words(&[
        "confiden",
        "privileged",
        "intended",
        "addressee",
        "recipient",
        "proprietary",
        "disclaimer",
        "legal notice",
        "if you",
        "environment",
        "print",
        "vertraulich",
        "ausschlie",
        "secured",
        "scanned",
        "virus",
        "checked",
        "protected",
        "filtered by",
        "virenfrei",
        "sent from my",
        "get outlook",
        "subscribe",
        "a member",
        "mailing list",
    ])
});

/// A link behind the words that it is on, as mail programs show it.
static LINK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\s*[<\[(]\s*https?://[^\s<>]*[>\])]").expect("the pattern is fixed"));

/// Whether `text` is a banner from its first sentence to its last.
pub(super) fn is_banner(text: &str) -> bool {
    if !OUTSIDE.is_match(text) {
        return false;
    }
    let mut from_outside = false;
    let text = LINK.replace_all(text, "");
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest
            .match_indices(['.', '!'])
            .map(|(at, _)| at + 1)
            .find(|&end| rest[end..].is_empty() || rest[end..].starts_with(' '));
        let end = end.unwrap_or(rest.len());
        let sentence = rest[..end].trim_end_matches(['.', '!', ' ']);
        if sentence.len() > SENTENCE {
            return false;
        }
        let origin = ORIGIN.is_match(sentence);
        if !origin && !ADVICE.is_match(sentence) {
            return false;
        }
        from_outside |= origin;
        rest = rest[end..].trim_start();
    }
    from_outside
}

/// Whether a paragraph begins as one below a mail does.
pub(super) fn is_footer(paragraph: &str) -> bool {
    BELOW.is_match(paragraph) && FOOTER.is_match(&LINK.replace_all(paragraph, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The literals of which a match of `hir` has one, if each of them has one of `words`; else none.
    fn required(hir: &regex_syntax::hir::Hir, words: &AhoCorasick) -> Vec<String> {
        use regex_syntax::hir::HirKind;
        match hir.kind() {
            HirKind::Literal(literal) => vec![String::from_utf8_lossy(&literal.0).to_lowercase()],
            HirKind::Capture(capture) => required(&capture.sub, words),
            HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub, words),
            HirKind::Concat(parts) => {
                let parts = parts.iter().map(|part| required(part, words));
                parts.max_by_key(|literals| known(literals, words)).unwrap_or_default()
            }
            HirKind::Alternation(ways) => {
                let ways: Vec<_> = ways.iter().map(|way| required(way, words)).collect();
                if ways.iter().any(Vec::is_empty) { Vec::new() } else { ways.concat() }
            }
            _ => Vec::new(),
        }
    }

    fn known(literals: &[String], words: &AhoCorasick) -> bool {
        !literals.is_empty() && literals.iter().all(|literal| words.is_match(literal))
    }

    #[test]
    fn each_sentence_of_a_banner_and_a_footer_has_a_word_that_is_looked_for() {
        for (set, words) in [(&*ORIGIN, &*OUTSIDE), (&*FOOTER, &*BELOW)] {
            for pattern in set.patterns() {
                // Without the folding of case, which takes each literal apart.
                let hir = regex_syntax::parse(pattern.strip_prefix("(?i)").unwrap()).unwrap();
                assert!(known(&required(&hir, words), words), "{pattern}");
            }
        }
    }
}
