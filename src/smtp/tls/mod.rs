//! TLS at the listeners (RFC 8446, RFC 5246 with the suites that are still good): what is presented to clients,
//! and whose certificates are taken from them.
//!
//! It promises that the files are read anew when they change, without an end of any session; that files which do
//! not fit together, as in the middle of a renewal, change nothing; and that nothing of a connection is kept for
//! the next: no tickets, no resumption, so that a certificate authority which was taken out is out.

mod certificate;
mod failure;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use tracing::{error, info};

use crate::diagnostic::Diagnostic;
use crate::document::{NamedFile, Table};
use crate::mail;

use super::stamp;
use super::stamp::Stamp;

pub use certificate::{Certificate, Facts, Pair};
pub use failure::Failure;

/// What `[smtp]` says about TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Each `[[certificate]]`. The first is presented to clients that ask for no name, or for one that no
    /// certificate has.
    pub certificates: Vec<Pair>,
    /// `client-ca`: the authorities whose certificates identify clients. None: clients are not asked for one.
    pub client_ca: Option<NamedFile>,
}

impl Config {
    /// Reads `[[certificate]]` and `client-ca` of `[smtp]`. The files are not looked at.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut certificates = Vec::new();
        for mut written in table.tables("certificate") {
            let span = written.span();
            match (written.file("certificate"), written.file("key")) {
                (Some(certificate), Some(key)) => certificates.push(Pair { certificate, key }),
                _ => written.error(
                    span,
                    "a certificate needs two files",
                    "certificate = \"…/fullchain.pem\" and key = \"…/privkey.pem\"",
                ),
            }
            written.finish();
        }
        Self { certificates, client_ca: table.file("client-ca") }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = self.certificates.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        files.chain(&self.client_ca).map(|file| Stamp::of(&file.path)).collect()
    }

    fn load(&self) -> Result<Presented, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut certificates = Vec::new();
        for pair in &self.certificates {
            match Certificate::load(pair) {
                Ok(certificate) => certificates.push(certificate),
                Err(found) => problems.extend(found),
            }
        }
        let verifier = match self.client_ca.as_ref().map(client_verifier).transpose() {
            Ok(verifier) => verifier.unwrap_or_else(|| Arc::new(NoClientAuth)),
            Err(problem) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName(certificates.clone())));
        // A mail is rare and a handshake cheap; what is not kept cannot outlive a change of the files.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Presented { certificates: certificates.into(), server: Arc::new(server) })
    }
}

/// Takes the certificates of clients that present one, if it leads to an authority in the file.
fn client_verifier(file: &NamedFile) -> Result<Arc<dyn ClientCertVerifier>, Diagnostic> {
    let mut roots = RootCertStore::empty();
    for authority in certificate::read_chain(file)? {
        roots.add(authority).map_err(|error| {
            file.diagnostic(format!(
                "{} holds a certificate that is no authority: {error}",
                file.path.display()
            ))
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .allow_unauthenticated()
        .build()
        .map_err(|error| file.diagnostic(format!("{} cannot be used: {error}", file.path.display())))
}

/// Chooses a certificate by the name that the client asks for, and by what signatures it understands.
#[derive(Debug)]
struct ByName(Vec<Certificate>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named =
            hello.server_name().into_iter().flat_map(|name| self.0.iter().filter(|c| c.facts.is_for(name)));
        // To a client that asks for a name we do not have, the first: it may know us by address or not check at all.
        named
            .chain(&self.0)
            .find(|certificate| certificate.key.key.choose_scheme(hello.signature_schemes()).is_some())
            .map(|certificate| Arc::clone(&certificate.key))
    }
}

/// What the files held when they were last right.
#[derive(Debug, Clone)]
struct Presented {
    certificates: Arc<[Certificate]>,
    server: Arc<ServerConfig>,
}

/// What the listener proves itself by, and keeps up with its files.
#[derive(Debug)]
pub struct Identity {
    config: Config,
    /// With the stamps of the files when they were last read, whether or not they were right.
    current: RwLock<(Presented, Vec<Stamp>)>,
}

impl Identity {
    /// Reads the files; none if there is no certificate.
    ///
    /// # Errors
    /// Everything that is wrong with them, each at the place in the config that names the file.
    pub fn load(config: &Config) -> Result<Option<Self>, Vec<Diagnostic>> {
        let stamps = config.stamps();
        let presented = config.load()?;
        let identity = Self { config: config.clone(), current: RwLock::new((presented, stamps)) };
        Ok((!config.certificates.is_empty()).then_some(identity))
    }

    /// What handshakes go by that begin now.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0.server)
    }

    /// The certificates in use.
    pub fn certificates(&self) -> Arc<[Certificate]> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0.certificates)
    }

    /// Reads the files anew if they changed since they were last read. Files that are wrong leave everything as
    /// it was, and are told once for each change. It blocks.
    pub fn look(&self) {
        let stamps = self.config.stamps();
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == stamps {
            return;
        }
        let loaded = self.config.load();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.1 = stamps;
        match loaded {
            Ok(presented) => {
                for Certificate { facts, files, .. } in &*presented.certificates {
                    let file = show(&files.certificate.path);
                    info!(file, names = ?facts.names, until = %facts.valid_until, "new certificate");
                }
                current.0 = presented;
            }
            Err(problems) => {
                for problem in &problems {
                    error!("{problem}");
                }
                error!("the new certificate cannot be used; the old one stays");
            }
        }
    }

    /// What an operator should know at `now`: of certificates that end soon or name no host, and of keys that
    /// lie open.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let certificates = self.certificates();
        let own = certificates.iter().flat_map(|certificate| certificate.warnings(now));
        let open =
            certificates.iter().filter_map(|certificate| stamp::open_to_all(&certificate.files.key.path));
        own.chain(open).collect()
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// What is known of a stream once its handshake is done.
pub fn describe(connection: &rustls::ServerConnection) -> mail::Tls {
    use rustls::ProtocolVersion;
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        // There is no other that rustls speaks.
        _ => "unknown",
    };
    // rustls has the names of IANA but for those of TLS 1.3.
    let suite =
        connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
    let subject = connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|certificate| Facts::of(certificate))
        .map(Facts::identity);
    mail::Tls { version: version.to_owned(), cipher: suite.replacen("TLS13_", "TLS_", 1), subject }
}

#[cfg(test)]
mod tests;
