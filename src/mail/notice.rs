//! A plain version that says nothing itself: it only stands for the HTML beside it.

use super::banners::Banners;

/// Longest plain text in bytes that may only stand for the HTML beside it.
pub(super) const LIMIT: usize = 300;

/// Whether a short plain version only stands for this HTML: a notice, pictures, a footer.
pub(super) fn stands_for(plain: &str, html: &str, banners: &Banners) -> bool {
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    if banners.are_all_of(plain) {
        return true;
    }
    let (plain, html) = (banners.stripped(plain).text, banners.stripped(html).text);
    is_notice(plain) || is_empty(plain) || {
        let (plain, html) = (squeezed(plain), squeezed(html));
        html.len() > plain.len() && html.ends_with(&plain)
    }
}

/// Whether a plain text only says that there is HTML, or how to see it.
fn is_notice(text: &str) -> bool {
    const HOW: [&str; 14] = [
        "view",
        "support",
        "client",
        "reader",
        "display",
        "anzeigen",
        "unterstützt",
        "darstellen",
        "ansehen",
        "open",
        "öffnen",
        "see ",
        "voir",
        "ver ",
    ];
    let text = text.to_lowercase();
    text.len() <= LIMIT
        && (text.contains("html")
            || text.contains("browser")
            || text.contains("navigateur")
            || text.contains("navegador"))
        && HOW.iter().any(|word| text.contains(word))
        && !text.lines().any(|line| line.contains(": ") && !line.contains("http"))
}

/// Whether nothing but pictures and links stands in a plain text.
fn is_empty(text: &str) -> bool {
    let mut rest = text.trim_start();
    while let Some(open) = rest.chars().next() {
        let close = match open {
            '[' => ']',
            '<' => '>',
            _ => return false,
        };
        let Some((inside, after)) = rest[1..].split_once(close) else { return false };
        let inside = inside.to_lowercase();
        let picture = ["cid:", "image", "logo", "http", "bild"].iter().any(|word| inside.starts_with(word))
            || [".png", ".jpg", ".jpeg", ".gif"].iter().any(|end| inside.ends_with(end));
        if !picture {
            return false;
        }
        rest = after.trim_start();
    }
    true
}
