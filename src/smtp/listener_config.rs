//! A listener: an address to listen on, with its own rules of entry.
//!
//! `listen` in `[smtp]` makes listeners with the default rules; each `[[smtp.listener]]` is one with its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::diagnostic::Diagnostic;
use crate::document::{Located, Table};
use crate::network::Network;
use crate::network::hold_everything;

use super::Senders;

mod validate;

pub(super) use validate::Site;

/// What an operator may write for an address.
const ADDRESS_HELP: &str = "an address and a port, such as `127.0.0.1:2525`, `0.0.0.0:25` or `[::1]:2525`; `unix:/PATH`; \
     or `systemd:NAME`";

/// An address to listen on and who comes in there, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// `address`.
    pub address: Address,
    /// `protocol`: what is spoken. SMTP.
    pub protocol: Protocol,
    /// `tls`: whether and when the stream is encrypted. Not.
    pub tls: TlsMode,
    /// `require-tls`: whether a mail may only come encrypted (530 5.7.0 otherwise). No.
    pub require_tls: bool,
    /// `require-auth`: whether a mail may only come from a client that has authenticated itself, by AUTH or by a
    /// certificate (530 5.7.0 otherwise). No.
    pub require_auth: bool,
    /// `auth`: whether clients may log in. By default where there are users.
    pub auth: bool,
    /// `auth-without-tls`: whether they may although everybody in between can read the password. No.
    pub auth_without_tls: bool,
    /// `accept-any-login`: the networks whose clients may log in with any name and password, without becoming a user:
    /// for senders that require AUTH and have no account. Default: none.
    pub accept_any_login: Vec<Network>,
    /// `mode`: who may connect to a Unix socket, as permissions of its file. 0660: the service's user and group.
    pub mode: u32,
    /// `allow`: the networks whose clients may come in. Everybody.
    pub allow: Option<Vec<Network>>,
    /// `senders-allow` and `senders-deny`: who may send. Everybody, unless `[smtp]` says otherwise.
    pub senders: Senders,
    /// `proxies`: the networks of the proxies that begin each connection with a PROXY header. None.
    pub proxies: Vec<Network>,
    /// `xclient`: the networks of the relays that may name the real client by XCLIENT. None.
    pub xclient: Vec<Network>,
    /// `lenient`: whether what legacy senders get wrong is repaired. No.
    pub lenient: bool,
    /// `bare-lf`: whether LF.LF ends a mail of a client that ends its commands by a bare LF. No.
    pub bare_lf: bool,
    /// `public`: whether anybody may reach it, so that it is strict where lenience would let one who writes a
    /// message say more than a message. By default if `allow` names no networks, or one of all addresses, and the
    /// address is none of loopback or proxies bring clients from elsewhere. Of an inherited socket the address is
    /// known when it is [opened](Self::opened).
    pub public: bool,
    /// Whether `public` is what the config says, and not by default.
    pub declared: bool,
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Inet(SocketAddr),
    /// A Unix socket, `unix:/path`.
    Unix(PathBuf),
    /// A socket that systemd opened, `systemd:NAME`, by the name that its unit gives it.
    Inherited(String),
}

/// What is spoken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantArray, strum::Display,
)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): a reply for each recipient at the end of a mail.
    Lmtp,
}

/// Whether and when a stream is encrypted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantArray, strum::Display,
)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum TlsMode {
    /// Never.
    #[default]
    Off,
    /// When the client asks by STARTTLS (RFC 3207).
    Starttls,
    /// From the first byte (RFC 8314 section 3.3).
    Implicit,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl Address {
    /// Reads `192.0.2.1:25`, `[::]:25`, `unix:/path` or `systemd:NAME`.
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return (!name.is_empty()).then(|| Self::Inherited(name.to_owned()));
        }
        text.parse().ok().map(Self::Inet)
    }

    fn read(table: &Table<'_>, text: Located<String>) -> Option<Self> {
        let address = Self::parse(&text.value);
        if address.is_none() {
            table.error(
                text.span,
                format!("`{}` is not a listen address", text.value.escape_debug()),
                ADDRESS_HELP,
            );
        }
        address
    }
}

impl ListenerConfig {
    /// A listener at `address` with the default rules.
    pub fn new(address: Address) -> Self {
        let mut listener = Self {
            address,
            protocol: Protocol::Smtp,
            tls: TlsMode::Off,
            require_tls: false,
            require_auth: false,
            auth: false,
            auth_without_tls: false,
            accept_any_login: Vec::new(),
            mode: 0o660,
            allow: None,
            senders: Senders::default(),
            proxies: Vec::new(),
            xclient: Vec::new(),
            lenient: false,
            bare_lf: false,
            public: false,
            declared: false,
        };
        listener.public = listener.public_by_default();
        listener
    }

    /// Whether anybody may reach it, as far as the config tells.
    fn public_by_default(&self) -> bool {
        let far = match &self.address {
            Address::Inet(address) => !address.ip().is_loopback() || !self.proxies.is_empty(),
            Address::Inherited(_) => !self.proxies.is_empty(),
            // Its clients have no address, so that none is taken for a proxy.
            Address::Unix(_) => false,
        };
        far && !self.is_fenced()
    }

    /// Whether `allow` keeps anybody out.
    fn is_fenced(&self) -> bool {
        self.allow.as_deref().is_some_and(|allowed| !hold_everything(allowed))
    }

    /// What it is now that its socket is open, at `address` if that is one of a network.
    ///
    /// # Errors
    /// An inherited socket turns out to be public, and may not be lenient.
    pub(super) fn opened(&self, address: Option<SocketAddr>) -> io::Result<Self> {
        let mut listener = self.clone();
        let far = address.filter(|address| !address.ip().is_loopback());
        if let (Address::Inherited(_), Some(address)) = (&self.address, far)
            && !self.declared
            && !self.is_fenced()
        {
            listener.public = true;
            if self.bare_lf {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("it is public at {address}, and {BARE_LF_HELP}"),
                ));
            }
            if self.lenient {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "it is public at {address}, and a public listener cannot be lenient: name the legacy \
                         senders in `allow`, or give them a listener of their own"
                    ),
                ));
            }
        }
        Ok(listener)
    }

    /// Reads a `[[smtp.listener]]`; none if it has no address.
    fn read(table: &mut Table<'_>, site: Site, senders: &Senders) -> Option<Self> {
        let span = table.span();
        let address = match table.string("address") {
            Some(text) => Address::read(table, text),
            None => {
                table.error(span, "this listener has no `address`", ADDRESS_HELP);
                None
            }
        };
        let mut listener = Self::new(address?);
        let protocol = table.value("protocol").map(|value| value.span());
        listener.protocol = table.word("protocol").unwrap_or_default();
        if let (Some(span), Protocol::Lmtp, Address::Inet(address)) =
            (protocol, listener.protocol, &listener.address)
            && address.port() == 25
        {
            table.error(
                span,
                "LMTP must not be spoken on port 25",
                "a mail server that comes here expects SMTP (RFC 2033 section 5): choose another port, or a socket",
            );
        }
        listener.tls = table.word("tls").unwrap_or_default();
        listener.require_tls = table.boolean("require-tls").unwrap_or_default();
        listener.require_auth = table.boolean("require-auth").unwrap_or_default();
        listener.auth = table.boolean("auth").unwrap_or(site.users);
        listener.auth_without_tls = table.boolean("auth-without-tls").unwrap_or_default();
        listener.accept_any_login = networks(table, "accept-any-login").unwrap_or_default();
        if let Some(mode) = table.string("mode") {
            match u32::from_str_radix(&mode.value, 8) {
                Ok(bits) if bits <= 0o777 => {
                    listener.mode = bits;
                    listener.refuse_mode(table, mode.span);
                }
                _ => table.error(
                    mode.span,
                    format!("`{}` is not a file mode", mode.value.escape_debug()),
                    "three octal digits for user, group and others, such as \"0660\" or \"0666\"",
                ),
            }
        }
        listener.refuse_what_cannot_be(table, site);
        listener.allow = networks(table, "allow");
        listener.senders = Senders::read(table, senders);
        listener.proxies = networks(table, "proxies").unwrap_or_default();
        listener.xclient = networks(table, "xclient").unwrap_or_default();
        let lenient = table.value("lenient").map(|value| value.span());
        listener.lenient = table.boolean("lenient").unwrap_or_default();
        listener.refuse_everybodys_word(table);
        let public = table.boolean("public");
        listener.declared = public.is_some();
        listener.public = public.unwrap_or_else(|| listener.public_by_default());
        if let (Some(span), true, true) = (lenient, listener.lenient, listener.public) {
            table.error(
                span,
                "a public listener cannot be lenient",
                "what is read otherwise here than at the relay in front can carry a second mail past it: name the \
                 legacy senders in `allow`, or give them a listener of their own",
            );
        }
        listener.refuse_bare_lf(table);
        Some(listener)
    }

    /// Reads `bare-lf`. It is allowed only where the client itself writes the mail: elsewhere LF.LF in a text would
    /// let its writer append a second mail.
    fn refuse_bare_lf(&mut self, table: &mut Table<'_>) {
        let span = table.value("bare-lf").map(|value| value.span());
        self.bare_lf = table.boolean("bare-lf").unwrap_or_default();
        let Some(span) = span.filter(|_| self.bare_lf) else { return };
        let where_not = match () {
            () if self.public => "a public listener",
            () if !self.proxies.is_empty() => "a listener with `proxies`",
            () if !self.xclient.is_empty() => "a listener with `xclient`",
            () => return,
        };
        table.error(span, format!("{where_not} cannot have `bare-lf`"), BARE_LF_HELP);
    }
}

const BARE_LF_HELP: &str = "where others write into what a client sends, LF.LF in a text carries a second mail past the \
                            relay in front: give the devices a listener of their own, with their network in `allow`";

/// Reads `listen` and every `[[smtp.listener]]` of `[smtp]`, or takes `default` if neither is written, and gives
/// the senders of `[smtp]` to those that name none. What works and should perhaps not be so goes to `warnings`.
pub(super) fn read(
    table: &mut Table<'_>,
    site: Site,
    default: Vec<ListenerConfig>,
    warnings: &mut Vec<Diagnostic>,
) -> Vec<ListenerConfig> {
    let senders = Senders::read(table, &Senders::default());
    let plain = |listener| ListenerConfig { senders: senders.clone(), auth: site.users, ..listener };
    let span = table.value("listen").map(|value| value.span());
    let listen = table.strings("listen");
    let listeners = table.tables("listener");
    if let (Some(span), Some([])) = (span, listen.as_deref())
        && listeners.is_empty()
    {
        table.error(span, "`listen` is empty", ADDRESS_HELP);
    }
    if listen.is_none() && listeners.is_empty() {
        return default.into_iter().map(plain).collect();
    }
    let mut found = Vec::new();
    for text in listen.into_iter().flatten() {
        let span = text.span.clone();
        let Some(address) = Address::read(table, text) else { continue };
        let listener = plain(ListenerConfig::new(address));
        warnings.extend(listener.openness(table.source(), span));
        found.push(listener);
    }
    for mut table in listeners {
        let listener = ListenerConfig::read(&mut table, site, &senders);
        let span = table.value("address").map_or_else(|| table.span(), |address| address.span());
        warnings.extend(listener.as_ref().and_then(|listener| listener.openness(table.source(), span)));
        found.extend(listener);
        table.finish();
    }
    found
}

pub(super) fn networks(table: &mut Table<'_>, key: &'static str) -> Option<Vec<Network>> {
    let written = table.strings(key)?;
    let mut found = Vec::with_capacity(written.len());
    for text in written {
        match text.value.parse() {
            Ok(network) => found.push(network),
            Err(_) => table.error(
                text.span,
                format!("`{}` is not a network", text.value.escape_debug()),
                "write \"192.0.2.0/24\", \"2001:db8::/32\" or one address",
            ),
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    fn listeners(text: &str) -> Result<Vec<ListenerConfig>, Vec<String>> {
        let site = Site { certificates: false, client_ca: false, users: false };
        let read = |table: &mut Table<'_>| read(table, site, Vec::new(), &mut Vec::new());
        document::read(&Source::new("t.toml", text), read).map_err(|found| {
            found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    #[test]
    fn lmtp_is_not_spoken_on_the_port_of_smtp() {
        assert_eq!(
            listeners("[[listener]]\naddress = '127.0.0.1:25'\nprotocol = 'lmtp'\n").unwrap_err(),
            ["3:12: LMTP must not be spoken on port 25"]
        );
        for address in ["127.0.0.1:24", "unix:/run/lmtp"] {
            let text = format!("[[listener]]\naddress = '{address}'\nprotocol = 'lmtp'\n");
            assert_eq!(listeners(&text).unwrap()[0].protocol, Protocol::Lmtp);
        }
        assert!(listeners("[[listener]]\naddress = '127.0.0.1:25'\n").is_ok());
    }

    #[test]
    fn only_an_entrance_that_is_not_public_may_be_lenient() {
        let listener = |rest: &str| listeners(&format!("[[listener]]\nlenient = true\n{rest}\n"));
        let refused = Err(vec!["2:11: a public listener cannot be lenient".to_owned()]);
        assert_eq!(listener("address = '0.0.0.0:25'"), refused);
        assert_eq!(listener("address = '127.0.0.1:25'\npublic = true"), refused);
        assert_eq!(listener("address = '0.0.0.0:25'\nallow = ['10.0.0.0/8']\npublic = true"), refused);
        assert_eq!(listener("address = '0.0.0.0:25'\nallow = ['10.0.0.0/8', '0.0.0.0/0']"), refused);
        assert_eq!(listener("address = '[::]:25'\nallow = ['::/0']"), refused);
        assert_eq!(listener("address = '127.0.0.1:25'\nproxies = ['127.0.0.1']"), refused);
        assert_eq!(listener("address = 'systemd:smtp'\nproxies = ['127.0.0.1']"), refused);
        for good in [
            "address = '127.0.0.1:25'",
            "address = '0.0.0.0:25'\nallow = ['10.0.0.0/8']",
            "address = '127.0.0.1:25'\nallow = ['10.0.0.0/8']\nproxies = ['127.0.0.1']",
            "address = '127.0.0.1:25'\npublic = false\nproxies = ['127.0.0.1']",
            "address = 'systemd:smtp'",
            "address = 'unix:/s'",
        ] {
            assert!(listener(good).unwrap()[0].lenient, "{good}");
        }
    }

    #[test]
    fn an_inherited_socket_is_public_where_anybody_reaches_it() {
        let opened = |rest: &str, address: Option<&str>| {
            let text = format!("[[listener]]\naddress = 'systemd:smtp'\n{rest}\n");
            listeners(&text).unwrap()[0].opened(address.map(|address| address.parse().unwrap()))
        };
        let everywhere = Some("0.0.0.0:25");
        assert!(opened("", everywhere).unwrap().public);
        assert!(opened("allow = ['0.0.0.0/0']", everywhere).unwrap().public);
        let error = opened("lenient = true", everywhere).unwrap_err().to_string();
        assert!(error.starts_with("it is public at 0.0.0.0:25, and a public listener cannot be lenient"));
        for (rest, address) in [
            ("lenient = true", Some("127.0.0.1:25")),
            ("lenient = true", None),
            ("lenient = true\nallow = ['10.0.0.0/8']", everywhere),
            ("lenient = true\npublic = false", everywhere),
        ] {
            assert!(!opened(rest, address).unwrap().public, "{rest}");
        }
    }
}
