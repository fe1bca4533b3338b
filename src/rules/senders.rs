//! The table of the senders that rule files know, made of what each file says of itself in `[about]`, so that
//! there is no second place that could say otherwise.

use jiff::tz::TimeZone;

use crate::diagnostic::Source;

use super::file;

/// The table of the senders that `sources` know, in Markdown. A file that says nothing of itself has no row.
pub fn senders(sources: &[Source]) -> String {
    let mut table = String::from(
        "| sender | opens | updates | closes | key | severity |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for source in sources {
        let Some(file) = file::read(source, &TimeZone::UTC, &mut Vec::new()) else { continue };
        let about = file.about;
        if about.opens.is_none() && about.key.is_none() {
            continue;
        }
        let sender = about.sender.unwrap_or(file.name.value);
        let cells = [about.opens, about.updates, about.closes, about.key, about.severity];
        table.push_str(&format!("| {}", cell(&sender)));
        for text in cells {
            table.push_str(&format!(" | {}", text.as_deref().map_or_else(|| "–".to_owned(), cell)));
        }
        table.push_str(" |\n");
    }
    table
}

/// `text` as it stands in a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
