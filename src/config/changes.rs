//! What differs between two versions of the config, setting by setting, and which of it a running service takes up
//! when it is told to reload. Names alone: a value may be a secret.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::diagnostic::Source;

/// What a reload puts in force. Everything else counts from the next start.
const TAKEN_UP: [&str; 6] = ["authenticity", "mail", "maintenance", "notices", "rules", "signl4.colors"];

/// The settings that differ in `now` from what the service was started with and that need a restart, as they are
/// written: `[delivery] timeout`, `[[team]]`.
pub(super) fn pending(started_with: &Source, now: &Source) -> Vec<String> {
    let read = |source: &Source| Value::Table(source.text.parse::<Table>().unwrap_or_default());
    let mut found = Vec::new();
    compare("", Some(&read(started_with)), Some(&read(now)), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<String>) {
    if before == after || TAKEN_UP.contains(&path) {
        return;
    }
    let tables = [before, after].map(|value| value.and_then(Value::as_table));
    let only_tables = tables.iter().flatten().count() == before.iter().chain(&after).count();
    let keys: BTreeSet<&String> = tables.iter().flatten().flat_map(|table| table.keys()).collect();
    if !only_tables || keys.is_empty() {
        return found.push(name(path, before.or(after)));
    }
    for key in keys {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let [before, after] = tables.map(|table| table.and_then(|table| table.get(key)));
        compare(&below, before, after, found);
    }
}

/// The setting at `path` as it is written.
fn name(path: &str, value: Option<&Value>) -> String {
    match (value, path.rsplit_once('.')) {
        (Some(Value::Array(items)), _) if items.iter().any(Value::is_table) => format!("[[{path}]]"),
        (Some(Value::Table(_)), _) => format!("[{path}]"),
        (_, Some((table, key))) => format!("[{table}] {key}"),
        (_, None) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending_of(before: &str, now: &str) -> Vec<String> {
        pending(&Source::new("t", before), &Source::new("t", now))
    }

    #[test]
    fn what_needs_a_restart_is_named_as_it_is_written() {
        let before = "[smtp]\nlisten = ['127.0.0.1:2525']\n[signl4]\nproxy = 'http://u:p@h'\n[delivery]\ntimeout = '5s'\n\
                      [incidents.storm]\nfactor = 2\n[[team]]\nname = 'soc'\n";
        let now = "[smtp]\nlisten = ['127.0.0.1:25']\n[[smtp.listener]]\naddress = 'x'\n[signl4]\nproxy = 'http://u:q@h'\n\
                   [incidents]\nstorm = false\n[heartbeat]\n[[team]]\nname = 'soc'\nfallback = 'ops'\n";
        assert_eq!(
            pending_of(before, now),
            [
                "[delivery] timeout",
                "[heartbeat]",
                "[incidents.storm]",
                "[signl4] proxy",
                "[smtp] listen",
                "[[smtp.listener]]",
                "[[team]]",
            ]
        );
        assert!(pending_of(before, before).is_empty());
    }

    #[test]
    fn what_a_reload_takes_up_needs_none() {
        let now = "[rules]\npaths = ['x']\n[rules.severity]\ninfo = {}\n[signl4.colors]\nred = 'A'\n[notices.mail]\nto = 'x'\n\
                   [[maintenance]]\nname = 'm'\n[authenticity]\ncheck = true\n";
        assert!(pending_of("", now).is_empty(), "{:?}", pending_of("", now));
    }
}
