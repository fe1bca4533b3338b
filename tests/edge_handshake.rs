//! A TLS handshake that fails: the log says who it was, what happened and what to do.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::ClientConfig;
use serde_json::Value;
use support::tls::{self, Authority, Pair};
use support::{Gateway, PATIENCE, Site, Smtp, standin};

const HOST: &str = "mx.example";

/// A gateway with TLS from the first byte, that knows clients by certificates of `authority`.
async fn gateway(authority: &Authority) -> (Site, Gateway) {
    let standin = standin().await;
    let mut site = Site::new(&standin);
    site.unset("smtp", "listen");
    site.set("smtp", "client-ca", "'ca.pem'");
    site.append("[[smtp.listener]]\naddress = '127.0.0.1:0'\ntls = 'implicit'\n");
    site.append("[[smtp.certificate]]\ncertificate = 'mx.pem'\nkey = 'mx.key'\n");
    std::fs::write(site.path("ca.pem"), authority.pem()).unwrap();
    authority.sign(HOST).write(&site.path(""), "mx");
    let gateway = site.start();
    (site, gateway)
}

fn connected(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A session as this client, up to the greeting.
fn session(gateway: &Gateway, client: &Arc<ClientConfig>) -> std::io::Result<Smtp<tls::Encrypted>> {
    tls::handshake(connected(gateway), client, HOST).and_then(Smtp::over)
}

/// The first line of the log about a failed handshake whose reason is `why`: its client and what to do.
fn told(gateway: &Gateway, why: &str) -> (String, String) {
    gateway.process().wait_for(&format!("handshake that failed because {why}"), |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "TLS handshake failed" && line["why"] == why).then(|| {
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            (text("client"), text("help"))
        })
    })
}

/// A certificate for a client, changed by `change`, and signed by nobody but itself.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let (mut params, key) = params(change);
    params.distinguished_name.push(DnType::CommonName, "hive");
    let certificate = params.self_signed(&key).unwrap();
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn params(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec!["hive.example".to_owned()]).unwrap();
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

#[tokio::test]
async fn a_client_certificate_that_is_refused_is_told_with_its_reason_and_what_to_do() {
    let authority = Authority::new("Test CA");
    let (_site, gateway) = gateway(&authority).await;
    let stranger = "the client's certificate is of no authority in `client-ca`";
    let of_authority = "the client's certificate is that of an authority, as self-signed ones mostly are";
    for (pair, why, help) in [
        (self_signed(|_| ()), stranger, "have it signed by an authority in `client-ca`"),
        (Authority::new("Other CA").sign("hive.example"), stranger, "have it signed"),
        // As `openssl req -x509` makes them.
        (
            self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            of_authority,
            "have it signed",
        ),
        (
            authority.sign_as(|params| params.not_after = date_time_ymd(2020, 1, 1)),
            "the client's certificate has expired",
            "renew it",
        ),
        (
            authority.sign_as(|params| params.not_before = date_time_ymd(2999, 1, 1)),
            "the client's certificate does not hold yet",
            "look at the clocks",
        ),
        (
            authority
                .sign_as(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "the client's certificate is not one for clients",
            "make it for client authentication",
        ),
    ] {
        assert!(session(&gateway, &authority.client(Some(&pair))).is_err(), "{why}");
        let (client, told) = told(&gateway, why);
        assert_eq!(client, "127.0.0.1");
        assert!(told.starts_with(help), "{told}");
    }
    // And none of it keeps out who is known, or shows nothing.
    assert!(session(&gateway, &authority.client(Some(&authority.sign("hive.example")))).is_ok());
    assert!(session(&gateway, &authority.client(None)).is_ok());
    gateway.stop();
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_listener_or_speaks_no_tls_is_told_as_that() {
    let (_site, gateway) = gateway(&Authority::new("Test CA")).await;
    assert!(session(&gateway, &Authority::new("Another CA").client(None)).is_err());
    let (client, help) = told(&gateway, "the client does not trust the certificate of this listener");
    assert_eq!(client, "127.0.0.1");
    assert!(help.starts_with("`smtp2signl4 tls` shows what the client sees"), "{help}");

    let mut plain = connected(&gateway);
    plain.write_all(b"EHLO hive.example\r\n").unwrap();
    let _ = plain.read_to_end(&mut Vec::new());
    let (_, help) = told(&gateway, "what the client sent is not TLS");
    assert!(help.contains("STARTTLS, or TLS from the first byte"), "{help}");
    gateway.stop();
}
