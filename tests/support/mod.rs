//! What the tests share: processes that end with their test, the real program on a site of its own, and a
//! scripted SMTP client.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

mod gateway;
mod process;
mod smtp;
mod spool;
pub mod tls;

pub use gateway::{Gateway, Site, program};
pub use process::{Process, run};
pub use smtp::Smtp;
pub use spool::Enqueue;

use std::net::TcpListener;
use std::time::Duration;

use smtp2signl4::standin::{Options, Standin};

/// How long a test waits for what must happen. It runs out only when the test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The secret of the team that [`standin`] knows.
pub const SECRET: &str = "team-secret";

/// A stand-in for SIGNL4 that knows one team.
pub async fn standin() -> Standin {
    Standin::start(Options { secrets: vec![SECRET.to_owned()], ..Options::default() }).await.unwrap()
}

/// Base64 (RFC 4648 section 4) in one line.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.as_ref().len().div_ceil(3) * 4);
    for chunk in bytes.as_ref().chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// A port of 127.0.0.1 that was free a moment ago, for a server that cannot choose one itself.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
