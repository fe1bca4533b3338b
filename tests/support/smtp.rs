//! A scripted SMTP client: says what it is told, and hands back the replies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;

use super::PATIENCE;
use super::tls::{self, Encrypted};

/// A connection to an SMTP server.
pub struct Smtp<S = TcpStream>(BufReader<S>);

impl Smtp {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Self::over(stream)
    }

    /// Goes on under TLS, as whoever said STARTTLS and heard 220 does.
    pub fn encrypt(self, config: &Arc<ClientConfig>, host: &str) -> io::Result<Smtp<Encrypted>> {
        Ok(Smtp(BufReader::new(tls::handshake(self.0.into_inner(), config, host)?)))
    }

    /// Says STARTTLS, which must be taken, and goes on under TLS.
    pub fn starttls(mut self, config: &Arc<ClientConfig>, host: &str) -> io::Result<Smtp<Encrypted>> {
        assert_eq!(self.say("STARTTLS")?, "220 2.0.0 ready for TLS");
        self.encrypt(config, host)
    }
}

impl<S: Read + Write> Smtp<S> {
    /// Reads the greeting on a stream.
    pub fn over(stream: S) -> io::Result<Self> {
        let mut smtp = Self(BufReader::new(stream));
        smtp.reply()?;
        Ok(smtp)
    }

    /// The stream.
    pub fn stream(&mut self) -> &mut S {
        self.0.get_mut()
    }

    /// Whether the server closes the connection in order, with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        self.0.read(&mut [0]).is_ok_and(|read| read == 0)
    }

    /// Sends a command line and reads its reply.
    pub fn say(&mut self, command: &str) -> io::Result<String> {
        self.write(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Reads a reply: its lines, joined by LF.
    pub fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let from = reply.len();
            if self.0.read_line(&mut reply)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reply.truncate(reply.trim_end().len());
            if reply.as_bytes().get(from + 3) != Some(&b'-') {
                return Ok(reply);
            }
            reply.push('\n');
        }
    }

    /// Hands over a mail, in as many steps as the protocol has, and returns the reply to its end, or the
    /// first reply that refuses a step. `content` may have LF line ends.
    pub fn mail(&mut self, from: &str, to: &[&str], content: &str) -> io::Result<String> {
        let mut steps = vec![format!("MAIL FROM:<{from}>")];
        steps.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        steps.push("DATA".to_owned());
        for step in steps {
            let reply = self.say(&step)?;
            if !reply.starts_with(['2', '3']) {
                return Ok(reply);
            }
        }
        let mut data = String::with_capacity(content.len() + 64);
        for line in content.lines() {
            data.push_str(if line.starts_with('.') { "." } else { "" });
            data.push_str(line);
            data.push_str("\r\n");
        }
        data.push_str(".\r\n");
        self.write(data.as_bytes())?;
        self.reply()
    }
}
