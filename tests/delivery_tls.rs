//! Delivery over TLS: whom it trusts, HTTP/2 and HTTP/1.1, and the way through a proxy.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use smtp2signl4::clock::System;
use smtp2signl4::delivery::{Config, Connection, Delivery, Plan, Proxy, State, Target};
use smtp2signl4::event::Event;
use smtp2signl4::incident;
use smtp2signl4::mail::{Envelope, MailId};
use smtp2signl4::secret::Secret;
use smtp2signl4::spool::{self, Entry, Outcome, Spool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The name that the server's certificate is for.
const HOST: &str = "localhost";

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What a server for [`HOST`] shows, that speaks `protocols`.
    fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A server over TLS that takes every event.
struct Server {
    address: SocketAddr,
    tls: Mutex<Arc<ServerConfig>>,
    connections: AtomicUsize,
    taken: Mutex<Vec<Version>>,
}

impl Server {
    async fn start(tls: Arc<ServerConfig>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, connections, taken) = (Mutex::new(tls), AtomicUsize::new(0), Mutex::default());
        let server = Arc::new(Self { address, tls, connections, taken });
        let this = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&*this.tls.lock().unwrap()));
                let this = Arc::clone(&this);
                tokio::spawn(async move {
                    // A client that does not trust us goes away here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    this.connections.fetch_add(1, Ordering::SeqCst);
                    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request| Arc::clone(&this).take(request));
                    // Clients go away as they like.
                    if two {
                        let serve = http2::Builder::new(TokioExecutor::new());
                        _ = serve.serve_connection(TokioIo::new(stream), service).await;
                    } else {
                        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
        });
        server
    }

    async fn take(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let version = request.version();
        assert_eq!(request.uri().path(), "/webhook/team-secret");
        request.into_body().collect().await?;
        self.taken.lock().unwrap().push(version);
        let reply = Response::builder().status(201).body(Full::from(r#"{"eventId":"2518_1"}"#));
        Ok(reply.expect("a constant reply is valid"))
    }

    fn url(&self) -> String {
        format!("https://{HOST}:{}/webhook/", self.address.port())
    }
}

/// A spool in a folder, and a delivery that drains it to a server.
struct Rig {
    folder: tempfile::TempDir,
    spool: Spool,
    delivery: Delivery,
    _stop: DropGuard,
}

impl Rig {
    /// One that trusts `authority` beside those of the system.
    fn start(server: &Server, authority: &Authority, proxy: Proxy) -> Self {
        Self::at(server.url(), authority, proxy)
    }

    fn at(url: String, authority: &Authority, proxy: Proxy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_file: PathBuf = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.0.pem()).unwrap();
        let spool = {
            let incidents = incident::Config { storm: None, ..incident::Config::default() };
            let config = spool::Config { incidents, ..spool::Config::at(folder.path().join("spool")) };
            Spool::open(&config, Arc::new(System)).unwrap()
        };
        let config = Config { plan: Plan::Unlimited, probe: false, ..Config::default() };
        let target = Target::fixed("soc", url, Secret::new("team-secret"));
        let connection = Connection { ca_file: Some(ca_file), proxy, ..Connection::default() };
        let stop = CancellationToken::new();
        let backlog = spool.clone();
        let (delivery, run) =
            Delivery::prepare(config, connection, vec![target], backlog, Arc::new(System), 1, stop.clone())
                .unwrap();
        tokio::spawn(run);
        let offer = delivery.clone();
        spool.tell(move |news| offer.offer(news.queued));
        Self { folder, spool, delivery, _stop: stop.drop_guard() }
    }

    async fn put(&self, n: u16) -> u64 {
        let event = Event { team: "soc".into(), title: n.to_string(), ..Event::default() };
        let entry = Entry {
            id: MailId::new(Timestamp::now(), n),
            envelope: Envelope::default(),
            content: None,
            story: serde_json::Value::Null,
            events: vec![event],
            dropped: None,
        };
        self.spool.put(entry, Vec::new()).await.unwrap().queued[0].seq
    }

    async fn delivered(&self, seq: u64) {
        let outcome = within(self.delivery.wait(seq)).await;
        assert!(matches!(outcome, Some(Outcome::Delivered { .. })), "{outcome:?}");
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("nothing happened for 30 s")
}

#[tokio::test]
async fn a_server_of_an_own_authority_is_trusted_and_many_posts_share_one_http_2_connection() {
    let authority = Authority::new("the site's own");
    let server = Server::start(authority.server(&["h2", "http/1.1"])).await;
    let rig = Rig::start(&server, &authority, Proxy::Off);
    let first = rig.put(0).await;
    rig.delivered(first).await;
    let mut last = 0;
    for n in 1..100 {
        last = rig.put(n).await;
    }
    rig.delivered(last).await;
    within(async { while rig.delivery.status().await[0].queued > 0 {} }).await;
    let taken = server.taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 100);
    assert!(taken.iter().all(|&version| version == Version::HTTP_2));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_speaks_http_1_alone_is_spoken_to_so() {
    let authority = Authority::new("the site's own");
    let server = Server::start(authority.server(&["http/1.1"])).await;
    let rig = Rig::start(&server, &authority, Proxy::Off);
    let seq = rig.put(0).await;
    rig.delivered(seq).await;
    assert_eq!(*server.taken.lock().unwrap(), [Version::HTTP_11]);
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_gets_nothing_until_its_certificate_is_put_right() {
    let (ours, theirs) = (Authority::new("the site's own"), Authority::new("somebody else's"));
    let server = Server::start(theirs.server(&["h2"])).await;
    let rig = Rig::start(&server, &ours, Proxy::Off);
    let seq = rig.put(0).await;
    within(async { while rig.delivery.status().await[0].state != State::Down {} }).await;
    let status = rig.delivery.status().await.remove(0);
    assert!(status.reason.to_lowercase().contains("certificate"), "{}", status.reason);
    assert!(server.taken.lock().unwrap().is_empty());
    *server.tls.lock().unwrap() = ours.server(&["h2"]);
    rig.delivered(seq).await;
    assert_eq!(server.taken.lock().unwrap().len(), 1);
    let status = rig.delivery.status().await.remove(0);
    assert_eq!(status.doubles, 0, "what never left cannot have been taken");
}

#[tokio::test]
async fn a_server_of_a_public_name_is_not_trusted_for_another() {
    let authority = Authority::new("the site's own");
    let server = Server::start(authority.server(&["h2"])).await;
    let url = format!("https://127.0.0.1:{}/webhook/", server.address.port());
    let rig = Rig::at(url, &authority, Proxy::Off);
    rig.put(0).await;
    within(async { while rig.delivery.status().await[0].state != State::Down {} }).await;
    assert!(server.taken.lock().unwrap().is_empty());
    drop(rig.folder);
}

/// A proxy that opens tunnels (RFC 9110 section 9.3.6) to where it is sent. How many it has opened.
async fn tunnels() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let to = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
                let port = to.rsplit_once(':').unwrap().1;
                let mut server = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                // Either side closes as it likes.
                _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, opened)
}

#[tokio::test]
async fn tls_goes_through_the_configured_proxy_end_to_end() {
    let authority = Authority::new("the site's own");
    let server = Server::start(authority.server(&["h2"])).await;
    let (proxy, opened) = tunnels().await;
    let proxy = Proxy::Url(Secret::new(format!("http://{proxy}")));
    let rig = Rig::start(&server, &authority, proxy);
    let seq = rig.put(0).await;
    rig.delivered(seq).await;
    assert_eq!(*server.taken.lock().unwrap(), [Version::HTTP_2]);
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}
