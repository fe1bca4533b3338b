//! `tls`: what the listener presents to clients under TLS, and until when.

use crate::clock::{Clock, System};
use crate::smtp::tls::{Certificate, Facts};
use crate::smtp::{Credentials, ListenerConfig, TlsMode};

use super::site::{Exit, Site, tell_all};
use super::terminal::print;

/// What `tls` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 tls
  smtp2signl4 tls --config gateway.toml

It reads the files as the service would. The service reads them anew when they change.")]
pub(super) struct Arguments {}

/// How to make clients trust a self-signed certificate.
const SELF_SIGNED: &str = "  self-signed  Clients that check certificates refuse it: Java says `PKIX path building failed`, and TheHive's mail is
               lost. Use a certificate of an authority that the client trusts; or add this one to the client's
               truststore, for Java by
                 keytool -importcert -noprompt -alias smtp2signl4 -file CERTIFICATE -cacerts -storepass changeit
               or, for a client on this machine, use a listener on 127.0.0.1 without `tls`.
";

/// Shows every certificate.
pub(super) fn tls(site: &Site, _: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let credentials = match Credentials::load(&config.smtp) {
        Ok(credentials) => credentials,
        Err(problems) => return tell_all(&problems),
    };
    let mut text = String::new();
    for listener in config.smtp.listeners.iter().filter(|listener| listener.tls != TlsMode::Off) {
        text += &describe(
            listener,
            config.smtp.tls.client_ca.as_ref().map(|file| file.path.display().to_string()),
        );
    }
    if text.is_empty() {
        text += "no listener has TLS: give one tls = \"starttls\" or tls = \"implicit\" in its [[smtp.listener]]\n";
    }
    let now = System.now();
    let certificates = credentials.identity.map(|identity| identity.certificates());
    for (at, certificate) in certificates.iter().flat_map(|all| all.iter()).enumerate() {
        text += &show(certificate, at == 0, now);
    }
    print(&text);
    Exit::Done
}

fn describe(listener: &ListenerConfig, client_ca: Option<String>) -> String {
    let way = match listener.tls {
        TlsMode::Implicit => "TLS from the first byte",
        _ if listener.require_tls => "STARTTLS, required for mail",
        _ => "STARTTLS, if the client wants",
    };
    let clients = client_ca.map_or_else(String::new, |ca| format!("; client certificates of {ca}"));
    format!("{}  {}, {way}{clients}\n", listener.address, listener.protocol)
}

fn show(certificate: &Certificate, first: bool, now: jiff::Timestamp) -> String {
    let Facts { subject, issuer, self_signed, names, valid_from, valid_until, fingerprint, .. } =
        &certificate.facts;
    let path = certificate.files.certificate.path.display();
    let key = certificate.files.key.path.display();
    let default = if first { "  (also for clients that ask for another name, or none)" } else { "" };
    let left = certificate.facts.days_left(now);
    let left = if left < 0 { "expired".to_owned() } else { format!("{left} days left") };
    let warnings = certificate.warnings(now).into_iter();
    let warning: String = warnings.map(|warning| format!("  warning      {warning}\n")).collect();
    let advice =
        if *self_signed { SELF_SIGNED.replace("CERTIFICATE", &path.to_string()) } else { String::new() };
    format!(
        "\n{path}{default}\n  key          {key}\n  names        {}\n  subject      {subject}\n  issuer       {issuer}\n  \
         valid        from {valid_from} until {valid_until}, {left}\n  SHA-256      {fingerprint}\n{warning}{advice}",
        names.join(", ")
    )
}
