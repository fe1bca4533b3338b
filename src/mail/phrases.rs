//! The phrases of banners and footers that are known everywhere. A phrase is a sentence or the start of a paragraph;
//! each pattern is anchored, and matches in linear time.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::{Regex, RegexSet};

use super::text::joined;

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

/// Words of which each sentence of [`ORIGIN`] has one, up to case: most texts have none and are no banner.
static OUTSIDE: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = [
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
    ];
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words)
        .expect("the words are few")
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

/// Starts of paragraphs that stand below a mail: the first words, and what follows them.
const FOOTERS: [(&str, &str); 16] = [
    (
        r"(?:this|the (?:information|content\w*)(?: contained)? (?:of|in) this|any)",
        r" (?:e-?mail|mail|message|communication|transmission)\b.{0,200}\b(?:confidential|privileged|intended (?:only|solely|exclusively|for)|addressee|named recipient|intended recipient|proprietary)\b",
    ),
    (
        r"(?:confidentiality (?:notice|note|warning|statement)|(?:e-?mail |legal )?disclaimer|legal notice|notice of confidentiality|(?:privileged|private|strictly private) (?:and|&|/) confidential)",
        r"\b",
    ),
    (
        r"if you (?:are not|have received|received)",
        r"\b.{0,80}\b(?:intended recipient|this (?:e-?mail|message)|in error|by mistake)\b",
    ),
    (r"please (?:consider|think)", r"\b.{0,60}\b(?:environment|print\w*)\b"),
    (
        r"(?:diese|die in dieser) (?:e-?mail|mail|nachricht)",
        r"\b.{0,200}(?:\bvertraulich|\bausschlie(?:ß|ss)lich\b)",
    ),
    (r"der inhalt dieser (?:e-?mail|mail|nachricht)", r"\b.{0,120}\bvertraulich"),
    (r"ce (?:message|courriel|e-?mail|mail)", r"\b.{0,200}\bconfidentiel"),
    (r"este (?:correo|mensaje|e-?mail)", r"\b.{0,200}\bconfidencial"),
    (
        r"(?:this )?(?:e-?mail|mail|message) (?:has been |was |is )?(?:secured|scanned|virus-checked|checked (?:for|by)|protected by|filtered by)",
        r"\b.{0,150}$",
    ),
    (r"(?:scanned|secured|protected|virus-checked) (?:by|with)", r"\b.{0,80}$"),
    (r"(?:virus-free|virenfrei|this is an automatically generated disclaimer)", r"\b"),
    (r"sent from my (?:iphone|ipad|phone|mobile|android|samsung|blackberry|galaxy)", r"\b.{0,30}$"),
    (r"get outlook for (?:ios|android)", r"\b"),
    (
        r"(?:you (?:have )?received|you(?:.re| are) receiving) this (?:message|e-?mail) because you(?:.re| are) (?:subscribed|a member)",
        r"\b.{0,120}\b(?:group|groups|list)\b",
    ),
    (r"to unsubscribe", r"\b.{0,300}$"),
    (r"[\w.+-]+ mailing list", r"\b.{0,200}@"),
];

static FOOTER: LazyLock<RegexSet> =
    LazyLock::new(|| set(&FOOTERS.map(|(opening, rest)| format!(r"^\W*{opening}{rest}"))));

/// The first words of all of them, however the lines are broken: most paragraphs begin otherwise and are no footer.
static OPENING: LazyLock<Regex> = LazyLock::new(|| {
    let openings = FOOTERS.map(|(opening, _)| opening.replace(' ', r"\s+")).join("|");
    Regex::new(&format!(r"(?i)^\W*(?:{openings})")).expect("the patterns are fixed")
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

/// Whether a paragraph, however its lines are broken, begins as one below a mail does.
pub(super) fn is_footer(paragraph: &str) -> bool {
    OPENING.is_match(paragraph) && FOOTER.is_match(&LINK.replace_all(&joined(paragraph), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The literals of which a match of `hir` has one; none if it can be without.
    fn required(hir: &regex_syntax::hir::Hir) -> Vec<String> {
        use regex_syntax::hir::HirKind;
        match hir.kind() {
            HirKind::Literal(literal) => vec![String::from_utf8_lossy(&literal.0).to_lowercase()],
            HirKind::Capture(capture) => required(&capture.sub),
            HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
            HirKind::Concat(parts) => {
                parts.iter().map(required).max_by_key(|words| known(words)).unwrap_or_default()
            }
            HirKind::Alternation(ways) => {
                let ways: Vec<_> = ways.iter().map(required).collect();
                if ways.iter().any(Vec::is_empty) { Vec::new() } else { ways.concat() }
            }
            _ => Vec::new(),
        }
    }

    /// Whether each of these literals has a word that is looked for.
    fn known(words: &[String]) -> bool {
        !words.is_empty() && words.iter().all(|word| OUTSIDE.is_match(word))
    }

    #[test]
    fn each_sentence_about_the_outside_has_a_word_that_is_looked_for() {
        for pattern in ORIGIN.patterns() {
            // Without the folding of case, which takes each literal apart.
            let hir = regex_syntax::parse(pattern.strip_prefix("(?i)").unwrap()).unwrap();
            assert!(known(&required(&hir)), "{pattern}");
        }
    }
}
