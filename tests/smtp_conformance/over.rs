//! The ways that a session can go, and the client's end of each.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// A way that a session can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Over {
    /// As it stands.
    Plain,
    /// Each byte in a write of its own.
    Bytes,
    /// Within TLS that was begun by STARTTLS.
    Starttls,
    /// Within TLS from the first byte.
    Tls,
    /// By LMTP: LHLO in the place of EHLO.
    Lmtp,
}

impl Over {
    pub const ALL: &[Self] = &[Self::Plain, Self::Bytes, Self::Starttls, Self::Tls, Self::Lmtp];

    /// The ways that an operator of the tests calls so.
    pub fn named(name: &str) -> &'static [Self] {
        match name {
            "plain" => &[Self::Plain],
            "bytes" => &[Self::Bytes],
            "starttls" => &[Self::Starttls],
            "tls" => &[Self::Tls],
            "lmtp" => &[Self::Lmtp],
            "smtp" => &[Self::Plain, Self::Bytes, Self::Starttls, Self::Tls],
            "clear" => &[Self::Plain, Self::Bytes],
            _ => panic!("there is no way `{name}`"),
        }
    }

    /// What the listener must be told for it.
    pub fn listener(self) -> &'static str {
        match self {
            Self::Plain | Self::Bytes => "",
            Self::Starttls => "tls = \"starttls\"\n",
            Self::Tls => "tls = \"implicit\"\n",
            Self::Lmtp => "protocol = \"lmtp\"\n",
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Bytes => "byte by byte",
            Self::Starttls => "STARTTLS",
            Self::Tls => "TLS",
            Self::Lmtp => "LMTP",
        })
    }
}

/// What a reply is when the server has closed.
pub const CLOSED: &str = "closed";

/// The client's end.
pub struct Peer {
    over: Over,
    stream: BufReader<Stream>,
    client: Arc<ClientConfig>,
    /// The greeting that came before STARTTLS, until the session asks for it.
    greeting: Option<Vec<String>>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// While one becomes the other.
    Between,
}

impl Peer {
    /// A client of `server`, by the TLS settings of `client`, up to where the session begins.
    pub fn connect(
        server: SocketAddr,
        over: Over,
        client: Arc<ClientConfig>,
        patience: Duration,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.set_write_timeout(Some(patience)).unwrap();
        let mut peer = Self { over, stream: BufReader::new(Stream::Plain(stream)), client, greeting: None };
        match over {
            Over::Plain | Over::Bytes | Over::Lmtp => (),
            Over::Tls => peer.handshake()?,
            Over::Starttls => {
                let greeting = peer.reply()?;
                peer.send(b"EHLO before.example\r\n");
                peer.reply()?;
                peer.send(b"STARTTLS\r\n");
                let go = peer.reply()?;
                if !go[0].starts_with("220") {
                    return Err(format!("STARTTLS: {go:?}"));
                }
                peer.handshake()?;
                peer.greeting = Some(greeting);
            }
        }
        Ok(peer)
    }

    /// Makes the stream a TLS stream.
    pub fn handshake(&mut self) -> Result<(), String> {
        let name = ServerName::try_from("mx.example").unwrap();
        let mut client = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let Stream::Plain(mut stream) = std::mem::replace(self.stream.get_mut(), Stream::Between) else {
            return Err("TLS within TLS".to_owned());
        };
        while client.is_handshaking() {
            client.complete_io(&mut stream).map_err(|error| format!("no handshake: {error}"))?;
        }
        *self.stream.get_mut() = Stream::Tls(Box::new(StreamOwned::new(client, stream)));
        Ok(())
    }

    /// Sends `bytes`. That a server has closed is found out by what it does not answer.
    pub fn send(&mut self, bytes: &[u8]) {
        let size = if self.over == Over::Bytes { 1 } else { bytes.len().max(1) };
        let bytes = if self.over == Over::Lmtp { by_lmtp(bytes) } else { bytes.to_vec() };
        for piece in bytes.chunks(size.max(1)) {
            let stream = self.stream.get_mut();
            if stream.write_all(piece).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }

    /// The lines of a reply.
    pub fn reply(&mut self) -> Result<Vec<String>, String> {
        if let Some(greeting) = self.greeting.take() {
            return Ok(greeting);
        }
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return Err(CLOSED.to_owned()),
                Err(error) if is_closed(&error) => return Err(CLOSED.to_owned()),
                Err(error) => return Err(format!("no reply: {error}")),
                Ok(_) => (),
            }
            let Some(line) = line.strip_suffix("\r\n") else {
                return Err(format!("a bare LF behind {line:?}"));
            };
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.to_owned());
            if last {
                return Ok(lines);
            }
        }
    }

    /// Reads to the end, which must be an alert of TLS (RFC 8446 section 6) and nothing more.
    pub fn alert(&mut self) -> Result<(), String> {
        let mut said = Vec::new();
        match self.stream.read_to_end(&mut said) {
            Err(error) if !is_closed(&error) => Err(format!("not closed: {error}")),
            _ if said.first() == Some(&21) && said.len() == 7 => Ok(()),
            _ => Err(format!("{said:?} is no alert")),
        }
    }

    /// Says that nothing more comes; what the server still says can be read.
    pub fn end(&mut self) {
        match self.stream.get_mut() {
            Stream::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                drop(stream.flush());
                drop(stream.sock.shutdown(Shutdown::Write));
            }
            Stream::Between => (),
        }
    }
}

/// Whether a server that closed can be read so: with what we sent unread it is a reset.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted
    )
}

/// `bytes` with LHLO where a line begins with EHLO.
fn by_lmtp(bytes: &[u8]) -> Vec<u8> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut said = Vec::with_capacity(bytes.len());
    for line in &mut lines {
        match line.strip_prefix(b"EHLO") {
            Some(rest) => {
                said.extend(b"LHLO");
                said.extend(rest);
            }
            None => said.extend(line),
        }
    }
    said
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Between => Ok(0),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
            Self::Between => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::Between => Ok(()),
        }
    }
}
