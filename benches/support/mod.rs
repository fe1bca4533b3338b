//! What the benchmarks share.

#![allow(clippy::unwrap_used, reason = "a run that cannot go on has nothing to tell")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// Where Debian has it.
pub const SMTP_SINK: &str = "/usr/sbin/smtp-sink";

/// Postfix's smtp-sink, which keeps nothing, and its address; none where Postfix is not there.
pub async fn smtp_sink() -> Option<(Child, SocketAddr)> {
    if !Path::new(SMTP_SINK).exists() {
        return None;
    }
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut command = Command::new(SMTP_SINK);
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    let mut sink = command.arg(address.to_string()).arg("1024").spawn().unwrap();
    while TcpStream::connect(address).await.is_err() {
        assert_eq!(sink.try_wait().unwrap(), None, "smtp-sink ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Some((sink, address))
}
