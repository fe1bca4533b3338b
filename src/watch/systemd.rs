//! Tells systemd how the service is (sd_notify(3)): a datagram to the socket that it named. Without that
//! socket nothing happens.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::config::Environment;

/// Sends `state`, such as `READY=1`, to systemd if it started this process. A failure is of no use to
/// anybody and is left out.
pub fn notify(environment: &Environment, state: &str) {
    let Some(path) = environment.var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}
