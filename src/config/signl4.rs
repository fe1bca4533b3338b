//! The section `[signl4]`: the webhook, the way to it, and the colours that the site's services have there.

use std::path::Path;

use super::SecretSource;
use crate::delivery::{self, Connection, EventId, Plan, Proxy};
use crate::diagnostic::suggest;
use crate::document::Table;
use crate::secret::Secret;

/// The webhook of SIGNL4's own service; the team secret follows it.
pub(super) const DEFAULT_URL: &str = "https://connect.signl4.com/webhook/";

/// The section `[signl4]`.
pub(super) struct Signl4 {
    /// The webhook's address without the secret.
    pub url: String,
    /// Where the secret of the one team is, if no teams are named.
    pub secret: SecretSource,
    /// Colours, each with the service that has it.
    pub colors: Vec<(String, String)>,
    /// The way to SIGNL4.
    pub connection: Connection,
    /// The plan that the account has.
    pub plan: Plan,
    /// True if a team's secret may be tried by a request that does not page.
    pub probe: bool,
}

impl Signl4 {
    /// Reads it; files in it count from `folder`.
    pub fn read(table: &mut Table<'_>, folder: &Path) -> Self {
        let url = table.string("url").map_or_else(
            || DEFAULT_URL.to_owned(),
            |url| {
                if let Some(problem) = delivery::refuse_url(&url.value) {
                    // What is wrong may be a secret in it.
                    table.report(
                        table
                            .source()
                            .diagnostic(url.span, problem)
                            .masked()
                            .help(format!("the address without the secret, such as \"{DEFAULT_URL}\"")),
                    );
                }
                url.value
            },
        );
        Self {
            url,
            secret: SecretSource::read(table, folder),
            colors: read_colors(table),
            connection: read_connection(table, folder),
            plan: table.value("plan").map_or(Plan::Auto, |value| Plan::read(&value)),
            probe: table.boolean("probe").unwrap_or(true),
        }
    }
}

/// Reads `ca-file` and `proxy`.
fn read_connection(table: &mut Table<'_>, folder: &Path) -> Connection {
    let ca_file = table.string("ca-file").map(|file| folder.join(file.value));
    let proxy = match table.value("proxy") {
        None => Proxy::Environment,
        Some(value) if value.type_name() == "boolean" => match value.boolean() {
            Some(false) => Proxy::Off,
            _ => Proxy::Environment,
        },
        Some(value) => match value.string() {
            Some(url) if url.value.contains("://") => Proxy::Url(Secret::new(url.value)),
            Some(url) => {
                let problem =
                    table.source().diagnostic(url.span, "this is not the address of a proxy").masked();
                table.report(problem.help("\"http://proxy.example:3128\", or `false` for none"));
                Proxy::Environment
            }
            None => Proxy::Environment,
        },
    };
    Connection {
        ca_file,
        proxy,
        event_id: table.value("event-id").map_or_else(EventId::default, |value| EventId::read(&value)),
    }
}

/// The colours that an alert can have in the app, by the names that SIGNL4's category editor gives them.
const COLORS: [&str; 10] =
    ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black"];

/// Reads `colors`.
fn read_colors(table: &mut Table<'_>) -> Vec<(String, String)> {
    let Some(mut colors) = table.table("colors") else { return Vec::new() };
    let mut found = Vec::new();
    for (name, service) in colors.entries() {
        let color = name.value.to_ascii_lowercase();
        if !COLORS.contains(&color.as_str()) {
            colors.error(
                name.span,
                format!("`{}` is not a colour that SIGNL4 has", name.value),
                suggest(&color, COLORS),
            );
        } else if let Some(service) = service.string() {
            if service.value.trim().is_empty() {
                colors.error(service.span, "the service has no name", "write the name of a SIGNL4 category");
            }
            found.push((color, service.value));
        }
    }
    colors.finish();
    found
}
