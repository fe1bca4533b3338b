//! A certificate authority of the test's own, and a certificate of it for this machine.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Files in a folder: `ca.pem`, `certificate.pem`, `key.pem`.
pub struct Certificates {
    folder: PathBuf,
    /// The authority's certificate.
    pub authority: Vec<u8>,
}

impl Certificates {
    /// Makes them in `folder`, for `localhost`, 127.0.0.1 and `mx.example`.
    pub fn make(folder: &Path) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "authority of a test");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let names = ["localhost", "127.0.0.1", "mx.example"].map(str::to_owned);
        let mut certificate = CertificateParams::new(names).unwrap();
        certificate.distinguished_name.push(DnType::CommonName, "localhost");
        let key = KeyPair::generate().unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(folder.join("certificate.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        Self { folder: folder.to_owned(), authority: authority.der().to_vec() }
    }

    /// The file of the authority's certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }
}
