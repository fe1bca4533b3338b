//! The section `[notices]`: who learns that events failed for good, and who is told by mail that SIGNL4 itself
//! cannot be reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::document::{Located, Table};

use super::{SecretSource, Team};

/// The longest trouble that is not told: a router that restarts, an update at SIGNL4.
const AFTER: Duration = Duration::from_secs(15 * 60);

/// `[notices]`.
#[derive(Debug, Clone)]
pub struct Notices {
    /// The team that is paged when events failed for good. None: only the log says so.
    pub team: Option<String>,
    /// How long events may be stuck before a mail says so.
    pub after: Duration,
    /// The mail that says so. None: only the log and systemd's status line do.
    pub mail: Option<NoticeMail>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { team: None, after: AFTER, mail: None }
    }
}

/// `[notices.mail]`: the mail for when SIGNL4 cannot be reached, and the way that it takes.
#[derive(Debug, Clone)]
pub struct NoticeMail {
    /// The smarthost: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// A PEM file of certificate authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The user, and where his password is.
    pub login: Option<(String, SecretSource)>,
    /// The author of the mail.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// The address for bounces; none: there are none.
    pub bounce: Option<String>,
}

/// How the connection to a smarthost is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum MailTls {
    /// By STARTTLS (RFC 3207), or no mail.
    #[default]
    Starttls,
    /// From the first byte (RFC 8314).
    Implicit,
    /// By STARTTLS where it is offered, with any certificate (RFC 7435).
    Opportunistic,
    /// Not at all.
    Off,
}

impl MailTls {
    /// The usual port (RFC 6409, RFC 8314).
    fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::Opportunistic | Self::Off => 25,
        }
    }

    /// True if the connection is encrypted and the server authenticated.
    fn is_private(self) -> bool {
        matches!(self, Self::Starttls | Self::Implicit)
    }
}

impl Notices {
    /// Reads `[notices]`; relative paths count from `folder`.
    pub fn read(table: &mut Table<'_>, folder: &Path, teams: &[Team]) -> Self {
        let mut notices = Self::default();
        if let Some(team) = table.string("team") {
            if !teams.iter().any(|known| known.name == team.value) {
                let known: Vec<_> = teams.iter().map(|team| team.name.as_str()).collect();
                table.error(
                    team.span.clone(),
                    format!("there is no team `{}`", team.value),
                    format!("the teams are: {}", known.join(", ")),
                );
            }
            notices.team = Some(team.value);
        }
        let span = table.value("after").map(|after| after.span());
        if let Some(after) = table.duration("after") {
            if after < Duration::from_secs(1) {
                table.error(span.unwrap_or_default(), "`after` is out of range", "at least 1s; 15m is usual");
            }
            notices.after = after;
        }
        if let Some(mut mail) = table.table("mail") {
            notices.mail = read_mail(&mut mail, folder);
            mail.finish();
        }
        notices
    }
}

fn read_mail(table: &mut Table<'_>, folder: &Path) -> Option<NoticeMail> {
    let tls: MailTls = table.word("tls").unwrap_or_default();
    let smarthost = required(table, "smarthost", "\"smtp.example.org\" or \"smtp.example.org:25\"");
    let address = smarthost.and_then(|text| {
        let found = host_and_port(&text.value, tls.port());
        if found.is_none() {
            let message = format!("`{}` is not the address of a mail server", text.value.escape_debug());
            table.error(text.span, message, "a name or address, and a port if it is not the usual one");
        }
        found
    });
    let from = required(table, "from", "the author of the mail").and_then(|text| mailbox(table, text));
    let to: Vec<String> = match table.strings("to") {
        Some(texts) => texts.into_iter().filter_map(|text| mailbox(table, text)).collect(),
        None => Vec::new(),
    };
    if to.is_empty() && !table.has("to") {
        table.error(table.span(), "`to` is missing", "who is to be told, such as to = [\"ops@example.org\"]");
    } else if to.is_empty() {
        table.error(table.span(), "`to` is empty", "write addresses into `to`");
    }
    let bounce = table.string("bounce").and_then(|text| mailbox(table, text));
    let ca_file = table.string("ca-file").map(|file| folder.join(file.value));
    let password = SecretSource {
        file: table.string("password-file").map(|file| folder.join(file.value)),
        credential: "notices-password".to_owned(),
        variable: "SMTP2SIGNL4_NOTICES_PASSWORD".to_owned(),
    };
    let login = table.string("username").map(|name| {
        if !tls.is_private() {
            table.error(
                name.span.clone(),
                "a password would go where others can read it",
                "write tls = \"starttls\" or \"implicit\"",
            );
        }
        (name.value, password)
    });
    let (host, port) = address?;
    Some(NoticeMail { host, port, tls, ca_file, login, from: from?, to, bounce })
}

fn required(table: &mut Table<'_>, key: &'static str, help: &str) -> Option<Located<String>> {
    if !table.has(key) {
        table.error(table.span(), format!("`{key}` is missing"), help);
    }
    table.string(key)
}

fn mailbox(table: &Table<'_>, text: Located<String>) -> Option<String> {
    if text.value.parse::<lettre::Address>().is_ok() {
        return Some(text.value);
    }
    let message = format!("`{}` is not a mail address", text.value.escape_debug());
    table.error(text.span, message, "local@domain");
    None
}

/// The parts of `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, number)) if !host.contains(':') || host.ends_with(']') => (host, number.parse().ok()?),
        _ => (text, port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    (!host.is_empty() && host.chars().all(plain) && port > 0).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn read(text: &str) -> Result<Notices, Vec<String>> {
        let team = |name: &str| Team {
            name: name.to_owned(),
            secret: SecretSource::default(),
            recipients: Vec::new(),
            account: crate::delivery::DEFAULT_ACCOUNT.to_owned(),
            fallback: None,
        };
        document::read(&Source::new("t", text), |root| {
            let mut table = root.table("notices").expect("every case has it");
            let notices = Notices::read(&mut table, Path::new("/etc/x"), &[team("soc"), team("ops")]);
            table.finish();
            notices
        })
        .map_err(|found| {
            found.into_iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    #[test]
    fn every_key_is_read_and_the_rest_keeps_its_default() {
        let notices = read(
            "[notices]\nteam = 'ops'\nafter = '5m'\n[notices.mail]\nsmarthost = 'smtp.example.org'\n\
             username = 'u'\npassword-file = 'p'\nfrom = 'gw@example.org'\nto = ['ops@example.org']\nbounce = 'b@example.org'",
        )
        .unwrap();
        assert_eq!((notices.team.as_deref(), notices.after), (Some("ops"), Duration::from_secs(300)));
        let mail = notices.mail.unwrap();
        assert_eq!((mail.host.as_str(), mail.port, mail.tls), ("smtp.example.org", 587, MailTls::Starttls));
        let (user, password) = mail.login.unwrap();
        assert_eq!((user.as_str(), password.file.as_deref()), ("u", Some(Path::new("/etc/x/p"))));
        assert_eq!(read("[notices]").unwrap().after, AFTER);
    }

    #[test]
    fn what_cannot_work_is_said_at_its_place() {
        let wrong = "[notices]\nteam = 'x'\nafter = '0s'\n[notices.mail]\nsmarthost = 'a b'\ntls = 'off'\n\
                     username = 'u'\nfrom = 'nobody'\n";
        assert_eq!(
            read(wrong).unwrap_err(),
            [
                "2:8: there is no team `x`",
                "3:9: `after` is out of range",
                "4:1: `to` is missing",
                "5:13: `a b` is not the address of a mail server",
                "7:12: a password would go where others can read it",
                "8:8: `nobody` is not a mail address",
            ]
        );
    }

    #[test]
    fn a_port_is_told_from_an_address() {
        for (text, expected) in [
            ("mx", Some(("mx", 25))),
            ("mx:2525", Some(("mx", 2525))),
            ("192.0.2.1:26", Some(("192.0.2.1", 26))),
            ("[2001:db8::1]:26", Some(("2001:db8::1", 26))),
            ("[2001:db8::1]", Some(("2001:db8::1", 25))),
            ("2001:db8::1", Some(("2001:db8::1", 25))),
            ("mx:port", None),
            ("mx:0", None),
            ("", None),
        ] {
            let expected = expected.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(host_and_port(text, 25), expected, "{text}");
        }
    }
}
