//! Certificates made for the test, in files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::ToSpan;
use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::diagnostic::Source;
use crate::document;

/// A folder with certificates and a config that names them.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a self-signed certificate for `host` and its key.
    fn certificate(&self, name: &str, host: &str) {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        self.write(&format!("{name}.pem"), &made.cert.pem());
        self.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        // By another name first, as renewals do, so that the inode changes.
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn config(&self, text: &str) -> Config {
        let source = Source::new(self.path("c.toml").display().to_string(), text);
        document::read(&source, Config::read).unwrap()
    }

    fn problems(&self, text: &str) -> Vec<String> {
        let found = self.config(text).load().unwrap_err();
        let folder = format!("{}/", self.0.path().display());
        let shown = |d: &Diagnostic| format!("{}:{}: {}", d.line, d.column, d.message).replace(&folder, "");
        found.iter().map(shown).collect()
    }
}

fn pair(name: &str) -> String {
    format!("[[certificate]]\ncertificate = '{name}.pem'\nkey = '{name}.key'\n")
}

fn names(identity: &Identity) -> Vec<String> {
    identity.certificates().iter().flat_map(|certificate| certificate.facts.names.clone()).collect()
}

#[test]
fn files_that_do_not_fit_are_told_at_the_places_that_name_them() {
    let folder = Folder::new();
    folder.certificate("a", "a.example");
    folder.certificate("b", "b.example");
    folder.write("empty", "");
    folder.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    folder.write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let with = |certificate: &str, key: &str| {
        folder.problems(&format!("[[certificate]]\ncertificate = '{certificate}'\nkey = '{key}'\n"))
    };
    assert_eq!(with("a.pem", "b.key"), ["3:7: this key is not that of the certificate"]);
    assert_eq!(
        with("none", "none"),
        [
            "2:15: none cannot be read: No such file or directory (os error 2)",
            "3:7: none cannot be read: No such file or directory (os error 2)",
        ]
    );
    assert_eq!(
        with("empty", "empty"),
        ["2:15: empty holds no certificate", "3:7: empty holds no private key"]
    );
    let locked = "3:7: the key in locked.key is encrypted, and nobody is there to type a password";
    assert_eq!(with("a.pem", "locked.key"), [locked]);
    assert_eq!(
        with("junk.pem", "a.key"),
        ["2:15: the first certificate in this file cannot be read as X.509"]
    );
    assert_eq!(folder.problems("client-ca = 'empty'\n"), ["1:13: empty holds no certificate"]);
    let half = Source::new("c.toml", "[[certificate]]\nkey = 'a'\n");
    assert_eq!(document::read(&half, Config::read).unwrap_err()[0].message, "a certificate needs two files");
}

#[test]
fn a_certificate_is_for_its_names_and_those_below_its_star() {
    let is_for = |own: &str, name: &str| {
        let made = rcgen::generate_simple_self_signed([own.to_owned()]).unwrap();
        Facts::of(made.cert.der()).unwrap().is_for(name)
    };
    assert!(is_for("mx.example", "MX.example"));
    assert!(is_for("*.example", "mx.example"));
    assert!(!is_for("*.example", "a.mx.example"));
    assert!(!is_for("*.example", "example"));
    assert!(!is_for("mx.example", "mx.example.org"));
}

#[test]
fn what_a_certificate_says_is_shown_without_what_could_steer_a_terminal() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["mx.example".to_owned(), "192.0.2.7".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "evil\u{1b}[2J\nname");
    let made = params.self_signed(&key).unwrap();
    let facts = Facts::of(made.der()).unwrap();
    assert_eq!(facts.names, ["mx.example", "192.0.2.7"]);
    assert_eq!(facts.subject, "CN=evil\u{fffd}[2J\u{fffd}name");
    assert!(facts.self_signed);
    assert_eq!(facts.fingerprint.len(), 32 * 3 - 1);
    assert!(Facts::of(b"no certificate").is_none());
}

#[test]
fn no_value_of_a_name_can_look_like_another_attribute() {
    let subject = |names: &[(DnType, &str)]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        Facts::of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap().subject
    };
    let (organisation, name) = (DnType::OrganizationName, DnType::CommonName);
    let honest = subject(&[(organisation.clone(), "Acme"), (name.clone(), "hive")]);
    assert_eq!(honest, "O=Acme, CN=hive");
    assert_eq!(subject(&[(organisation.clone(), "Acme, CN=hive")]), r"O=Acme\, CN=hive");
    assert_eq!(subject(&[(name.clone(), "a + O=Acme")]), r"CN=a \+ O=Acme");
    assert_eq!(subject(&[(name.clone(), r#" #"<>;\ "#)]), r#"CN=\ #\"\<\>\;\\\ "#);
    assert_eq!(subject(&[(name, "#=a b")]), r"CN=\#=a b");
    assert_eq!(subject(&[]), "");
}

#[test]
fn an_operator_is_warned_two_weeks_before_the_end_and_after_it() {
    let folder = Folder::new();
    folder.certificate("a", "a.example");
    let identity = Identity::load(&folder.config(&pair("a"))).unwrap().unwrap();
    let Facts { valid_from, valid_until, .. } = identity.certificates()[0].facts.clone();
    let warned = |at: Timestamp| identity.warnings(at).concat();
    assert!(warned(valid_from).contains("a.key is open to everybody on this machine: chmod o= "));
    fs::set_permissions(folder.path("a.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(warned(valid_until - (14 * 24).hours()), "");
    assert!(warned(valid_until - (13 * 24 + 1).hours()).contains(" ends in 13 days, "));
    assert!(warned(valid_until).contains(" has expired: "));
    assert!(warned(valid_from - 1.hour()).contains(" does not hold before "));
    let key = KeyPair::generate().unwrap();
    folder.write("a.pem", &CertificateParams::default().self_signed(&key).unwrap().pem());
    folder.write("a.key", &key.serialize_pem());
    fs::set_permissions(folder.path("a.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let nameless = Identity::load(&folder.config(&pair("a"))).unwrap().unwrap();
    assert!(
        nameless
            .warnings("2026-11-20T17:04:05Z".parse().unwrap())
            .concat()
            .contains(" has no subjectAltName: ")
    );
}

#[test]
fn a_new_pair_is_taken_when_both_files_fit_and_the_old_one_stays_until_then() {
    let folder = Folder::new();
    folder.certificate("a", "old.example");
    let identity = Identity::load(&folder.config(&pair("a"))).unwrap().unwrap();
    let before = identity.server();
    identity.look();
    assert!(Arc::ptr_eq(&identity.server(), &before));

    folder.certificate("b", "new.example");
    fs::rename(folder.path("b.pem"), folder.path("a.pem")).unwrap();
    identity.look();
    assert_eq!(names(&identity), ["old.example"]);
    assert!(Arc::ptr_eq(&identity.server(), &before));
    fs::rename(folder.path("b.key"), folder.path("a.key")).unwrap();
    identity.look();
    assert_eq!(names(&identity), ["new.example"]);
    fs::remove_file(folder.path("a.pem")).unwrap();
    identity.look();
    assert_eq!(names(&identity), ["new.example"]);
}

#[test]
fn nothing_is_kept_of_a_connection_for_the_next() {
    let folder = Folder::new();
    folder.certificate("a", "a.example");
    let server = Identity::load(&folder.config(&pair("a"))).unwrap().unwrap().server();
    assert_eq!(server.send_tls13_tickets, 0);
    assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    assert_eq!(server.max_early_data_size, 0);
}

#[test]
fn without_a_certificate_there_is_nothing_to_present() {
    assert!(Identity::load(&Config::default()).unwrap().is_none());
}
