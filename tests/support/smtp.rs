//! A scripted SMTP client: says what it is told, and hands back the replies.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection to an SMTP server.
pub struct Smtp(BufReader<TcpStream>);

impl Smtp {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut smtp = Self(BufReader::new(stream));
        smtp.reply()?;
        Ok(smtp)
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
