//! Whether the rules of a listener make sense: what no client could do, what everybody could, and what works and
//! is most likely not meant so. Each is told at its place in the config.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Source};
use crate::document::Table;
use crate::network::hold_everything;

use super::{Address, ListenerConfig, TlsMode};

/// What the rest of `[smtp]` has to offer to a listener.
#[derive(Debug, Clone, Copy)]
pub(in crate::smtp) struct Site {
    /// Whether there are certificates to present.
    pub certificates: bool,
    /// Whether there is an authority that identifies clients.
    pub client_ca: bool,
    /// Whether there are users.
    pub users: bool,
}

impl ListenerConfig {
    /// Reports what is asked of clients and cannot be done by any.
    pub(super) fn refuse_what_cannot_be(&self, table: &mut Table<'_>, site: Site) {
        let encrypted = self.tls != TlsMode::Off;
        if encrypted && !site.certificates {
            let help = "add [[smtp.certificate]] with `certificate` and `key`, or leave `tls` out";
            refuse(table, "tls", "there is no certificate for TLS", help);
        }
        if self.require_tls && !encrypted {
            let help = "add tls = \"starttls\" or tls = \"implicit\", or leave `require-tls` out";
            refuse(table, "require-tls", "no mail can come in: TLS is required and not offered", help);
        }
        let login = self.auth && site.users && (encrypted || self.auth_without_tls);
        if self.auth && !site.users {
            let help = "name the file of users by `users` in [smtp], or leave `auth` out";
            refuse(table, "auth", "no client can log in: there are no users", help);
        } else if self.require_auth
            && !login
            && !(encrypted && site.client_ca)
            && self.accept_any_login.is_empty()
        {
            let help = "clients need `users` or `client-ca` in [smtp], and `tls` here";
            refuse(table, "require-auth", "no mail can come in: a login is required and not offered", help);
        } else if self.auth && !login && table.has("auth") {
            let help = "add tls = \"starttls\", or auth-without-tls = true on a network that is safe from eavesdropping";
            refuse(
                table,
                "auth",
                "no client can log in: AUTH is offered under TLS only, and there is none",
                help,
            );
        }
    }

    /// Reports a `mode` at `span` where there is no file to have it.
    pub(super) fn refuse_mode(&self, table: &Table<'_>, span: Range<usize>) {
        let (message, help) = match self.address {
            Address::Unix(_) => return,
            Address::Inet(_) => (
                "a TCP port has no file that could have a `mode`",
                "leave it out; `allow` says from which networks clients may come",
            ),
            Address::Inherited(_) => (
                "a socket of systemd has the mode that its unit gives it",
                "leave it out, and write `SocketMode=` into the socket's unit",
            ),
        };
        table.error(span, message, help);
    }

    /// Reports what may be said by a few and is allowed to everybody.
    pub(super) fn refuse_everybodys_word(&self, table: &mut Table<'_>) {
        let not_public = table.value("public").and_then(|value| value.boolean()) == Some(false);
        let near = match &self.address {
            Address::Inet(address) => address.ip().is_loopback(),
            Address::Unix(_) => true,
            Address::Inherited(_) => false,
        };
        // `allow` is for the clients that proxies name, and does not keep anybody from being a proxy.
        if !near && !not_public && hold_everything(&self.proxies) {
            let help = "name the proxies that stand in front: proxies = [\"10.0.0.2\"]";
            refuse(
                table,
                "proxies",
                "everybody may come as a proxy here, and say whose connection it is",
                help,
            );
        }
        if (near && self.proxies.is_empty()) || not_public || self.is_fenced() {
            return;
        }
        if hold_everything(&self.xclient) {
            let help = "name the relays that pass mail on to here: xclient = [\"10.0.0.3\"]";
            refuse(table, "xclient", "everybody may say here who they are, and who has logged in", help);
        }
        if hold_everything(&self.accept_any_login) {
            let help = "name the senders that must log in and have no account: accept-any-login = [\"10.0.0.5\"]; \
                        or name in `allow` who may come in at all";
            refuse(table, "accept-any-login", "everybody may log in here, with any password", help);
        }
    }

    /// What an operator is to know, at `span` of `source`, who lets everybody in, in the clear.
    pub(super) fn openness(&self, source: &Source, span: Range<usize>) -> Option<Diagnostic> {
        let far = matches!(&self.address, Address::Inet(address) if !address.ip().is_loopback());
        let open = far
            && self.proxies.is_empty()
            && !self.is_fenced()
            && self.tls == TlsMode::Off
            && !self.require_auth
            && (self.public || !self.declared);
        open.then(|| {
            source
                .diagnostic(
                    span,
                    "everybody who reaches this address can page, in the clear and without a login",
                )
                .help(
                    "give it a [[smtp.listener]] with `allow`, or with `tls` and `require-auth`; or with \
                     public = false, where a firewall lets in your own senders alone",
                )
        })
    }
}

fn refuse(table: &mut Table<'_>, key: &'static str, message: &str, help: &str) {
    let span = table.value(key).map_or_else(|| table.span(), |value| value.span());
    table.error(span, message, help);
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Source;
    use crate::document::read;
    use crate::smtp::Config;

    fn config(text: &str) -> Result<Config, Vec<String>> {
        read(&Source::new("t.toml", text), Config::read).map_err(|found| {
            found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    fn listener(rest: &str) -> Result<Config, Vec<String>> {
        config(&format!("[[listener]]\n{rest}\n"))
    }

    #[test]
    fn only_a_file_has_a_mode() {
        assert_eq!(
            listener("address = '127.0.0.1:2525'\nmode = '0660'").unwrap_err(),
            ["3:8: a TCP port has no file that could have a `mode`"]
        );
        assert_eq!(
            listener("address = 'systemd:smtp'\nmode = '0660'").unwrap_err(),
            ["3:8: a socket of systemd has the mode that its unit gives it"]
        );
        assert_eq!(listener("address = 'unix:/s'\nmode = '0666'").unwrap().listeners[0].mode, 0o666);
    }

    #[test]
    fn what_a_few_may_say_is_not_allowed_to_everybody() {
        let far = "address = '0.0.0.0:25'";
        let behind = "address = '127.0.0.1:25'\nproxies = '127.0.0.1'";
        for everybody in ["'0.0.0.0/0'", "'::/0'", "['0.0.0.0/1', '128.0.0.0/1']", "['10.0.0.0/8', '::/0']"] {
            for (key, told) in [
                ("accept-any-login", "everybody may log in here, with any password"),
                ("xclient", "everybody may say here who they are, and who has logged in"),
            ] {
                let written = format!("{key} = {everybody}");
                let column = key.len() + 4;
                for (open, line) in [
                    (far, 3),
                    (behind, 4),
                    ("address = 'systemd:smtp'", 3),
                    ("address = '0.0.0.0:25'\nallow = ['0.0.0.0/1', '128.0.0.0/1']", 4),
                    ("address = '0.0.0.0:25'\npublic = true", 4),
                ] {
                    let found = listener(&format!("{open}\n{written}")).unwrap_err();
                    assert_eq!(found, [format!("{line}:{column}: {told}")], "{open}");
                }
                for closed in [
                    "address = '127.0.0.1:25'",
                    "address = 'unix:/s'",
                    "address = '0.0.0.0:25'\nallow = '10.0.0.0/8'",
                    "address = '0.0.0.0:25'\npublic = false",
                ] {
                    assert!(listener(&format!("{closed}\n{written}")).is_ok(), "{closed}");
                }
            }
            let proxies = format!("proxies = {everybody}");
            let told = ["4:11: everybody may come as a proxy here, and say whose connection it is"];
            let fenced = listener(&format!("{far}\nallow = '10.0.0.0/8'\n{proxies}")).unwrap_err();
            assert_eq!(fenced, told, "whom a proxy names is in any network");
            assert!(listener(&format!("address = '127.0.0.1:25'\n{proxies}")).is_ok());
        }
        assert!(listener(&format!("{far}\naccept-any-login = ['0.0.0.0/1', '10.0.0.0/8']")).is_ok());
    }

    #[test]
    fn who_lets_everybody_in_and_in_the_clear_is_warned() {
        let warned = |text: &str| {
            let config = config(text).unwrap();
            let places = config.warnings.iter().map(|d| format!("{}:{}", d.line, d.column));
            places.collect::<Vec<_>>()
        };
        assert_eq!(warned("listen = ['127.0.0.1:25', '0.0.0.0:25', '[::]:26']\n"), ["1:27", "1:41"]);
        let listener = |rest: &str| warned(&format!("[[listener]]\n{rest}\n"));
        assert_eq!(listener("address = '192.0.2.1:25'"), ["2:11"]);
        assert_eq!(listener("address = '0.0.0.0:25'\nallow = ['128.0.0.0/1', '0.0.0.0/1']"), ["2:11"]);
        assert_eq!(listener("public = true\naddress = '0.0.0.0:25'"), ["3:11"]);
        for settled in [
            "address = '127.0.0.1:25'\npublic = true",
            "address = '0.0.0.0:25'\nallow = '10.0.0.0/8'",
            "address = '0.0.0.0:25'\npublic = false",
            "address = '0.0.0.0:25'\nproxies = '10.0.0.2'",
            "address = '0.0.0.0:25'\ntls = 'starttls'\n[[certificate]]\ncertificate = 'c'\nkey = 'k'",
            "address = 'unix:/s'",
            "address = 'systemd:smtp'",
        ] {
            assert_eq!(listener(settled), [""; 0], "{settled}");
        }
        assert_eq!(warned(""), [""; 0]);
    }
}
