//! How the elements of HTML lay out their text.

/// What an element does to the lines around it.
pub(super) enum Layout {
    Inline,
    Break,
    /// Its own line.
    Block,
    /// Its own line, a blank line before and after.
    Paragraph,
    Rule,
    Table,
    Row,
    Cell,
    Quote,
    Pre,
    Link,
    Image,
}

/// What the element of this name does.
pub(super) fn layout(name: &str) -> Layout {
    let mut lower = [0; 10];
    let Some(lower) = lower.get_mut(..name.len()) else { return Layout::Inline };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"br" => Layout::Break,
        b"div" | b"li" | b"dt" | b"dd" | b"address" | b"article" | b"aside" | b"body" | b"caption"
        | b"center" | b"fieldset" | b"figcaption" | b"footer" | b"form" | b"header" | b"html" | b"legend"
        | b"main" | b"nav" | b"option" | b"section" | b"summary" | b"details" => Layout::Block,
        b"p" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"ul" | b"ol" | b"dl" | b"figure" => {
            Layout::Paragraph
        }
        b"hr" => Layout::Rule,
        b"table" => Layout::Table,
        b"tr" => Layout::Row,
        b"td" | b"th" => Layout::Cell,
        b"blockquote" => Layout::Quote,
        b"pre" | b"xmp" | b"listing" => Layout::Pre,
        b"a" => Layout::Link,
        b"img" => Layout::Image,
        _ => Layout::Inline,
    }
}
