//! TLS for the tests: an authority, what it signs, and a client that trusts it.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

/// A stream under TLS.
pub type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A certificate authority of a test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// One that calls itself `name`.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `host`, whose subject has it for its common name as well.
    pub fn sign(&self, host: &str) -> Pair {
        self.sign_for(&[host])
    }

    /// The same for several hosts, of which the first is the common name.
    pub fn sign_for(&self, hosts: &[&str]) -> Pair {
        let mut params =
            CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, hosts[0]);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A certificate for nothing but a common name, of whatever characters.
    pub fn sign_name(&self, name: &str) -> Pair {
        self.sign_as(|params| params.distinguished_name.push(DnType::CommonName, name))
    }

    /// A certificate that says what `change` makes of one that says nothing.
    pub fn sign_as(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts this authority, and shows a certificate if it is given one.
    pub fn client(&self, own: Option<&Pair>) -> Arc<ClientConfig> {
        self.client_of(rustls::DEFAULT_VERSIONS, own)
    }

    /// The same with these versions of TLS.
    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Pair>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match own {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key` into `folder`, each in one step, as renewals do.
    pub fn write(&self, folder: &Path, name: &str) {
        for (ending, text) in [("pem", &self.certificate), ("key", &self.key)] {
            let fresh = folder.join("fresh");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(&fresh, folder.join(format!("{name}.{ending}"))).unwrap();
        }
    }
}

/// Begins with TLS as a client of `host`, and returns once the handshake is done.
pub fn handshake(mut stream: TcpStream, config: &Arc<ClientConfig>, host: &str) -> io::Result<Encrypted> {
    let name = host.to_owned().try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// The certificate that the server presented.
pub fn presented(stream: &Encrypted) -> &CertificateDer<'static> {
    &stream.conn.peer_certificates().unwrap()[0]
}
