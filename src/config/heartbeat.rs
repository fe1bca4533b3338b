//! `[heartbeat]`: the address that is asked for again and again while the gateway works.

use std::path::Path;
use std::time::Duration;

use crate::document::Table;
use crate::secret::Secret;

use super::{Environment, SecretSource};

/// The credential and the variable that may hold the address.
const CREDENTIAL: &str = "signl4-heartbeat";
const VARIABLE: &str = "SIGNL4_HEARTBEAT_URL";

/// How often, unless it is written.
const INTERVAL: Duration = Duration::from_secs(60);

/// Bounds of the interval. A ping costs little; one a day is too late.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

/// The heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// From one ping to the next.
    pub interval: Duration,
    /// Where its address is to be found.
    pub(super) source: SecretSource,
}

impl Heartbeat {
    /// Reads `[heartbeat]`.
    pub(super) fn read(table: &mut Table<'_>, folder: &Path) -> Self {
        if let Some(inline) = table.value("url") {
            let problem = table
                .source()
                .diagnostic(inline.span(), "the address of a heartbeat does not belong in this file");
            table.report(
                problem.masked().help(
                    "anyone who knows it can keep the heartbeat alive: put it in a separate file and name that file in `url-file`",
                ),
            );
        }
        let span = table.value("interval").map(|value| value.span());
        let mut interval = table.duration("interval").unwrap_or(INTERVAL);
        if let Some(span) = span
            && !INTERVALS.contains(&interval)
        {
            table.error(span, "`interval` is out of range", "from 10s to 1d");
            interval = INTERVAL;
        }
        let source = SecretSource {
            file: table.string("url-file").map(|file| folder.join(file.value)),
            credential: CREDENTIAL.to_owned(),
            variable: VARIABLE.to_owned(),
        };
        Self { interval, source }
    }

    /// The address, which is a credential.
    ///
    /// # Errors
    /// In words for an operator, never with the address in it.
    pub fn url(&self, environment: &Environment) -> Result<Secret, String> {
        self.source.look_up(environment, "heartbeat address", "url-file", |text| {
            let text = text.trim();
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            match rest {
                Some(rest) if !rest.is_empty() && !text.contains(char::is_whitespace) => Ok(text),
                _ => Err("holds no address: it must begin with https://"),
            }
        })
    }

    /// How to give the address, for the help line of an error.
    pub(super) fn how_to_give() -> String {
        format!(
            "put it in a file and name it by `url-file`, or set {VARIABLE}, or give the service the systemd credential \
             `{CREDENTIAL}`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Heartbeat, Vec<String>> {
        document::read(&Source::new("t.toml", text), |root| Heartbeat::read(root, Path::new("/etc")))
            .map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_address_comes_from_outside_and_is_never_shown() {
        let heartbeat = read("interval = '30s'").unwrap();
        assert_eq!(heartbeat.interval, Duration::from_secs(30));
        let given = |url: &str| {
            heartbeat
                .url(&Environment::of([(VARIABLE.to_owned(), url.to_owned())]))
                .map(|url| url.expose().to_owned())
        };
        assert_eq!(
            given("https://connect.signl4.com/apps/x?y=z\n"),
            Ok("https://connect.signl4.com/apps/x?y=z".into())
        );
        for wrong in ["ftp://h1dden", "h1dden", "https://", "https://h1dden and more"] {
            assert!(!given(wrong).unwrap_err().contains("h1dden"), "{wrong}");
        }
        assert_eq!(heartbeat.url(&Environment::default()).unwrap_err(), "there is no heartbeat address");
        let inline = read("url = 'https://h1dden'\ninterval = '1s'").unwrap_err();
        assert_eq!(inline.len(), 2);
        assert!(!inline[0].contains("h1dden"), "{}", inline[0]);
    }
}
