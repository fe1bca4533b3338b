//! The client of the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::protocol::{Reply, Request};

/// What became of a request.
pub enum Way {
    /// The service answered.
    Answered(Reply),
    /// A service is there and did not answer as it should: whether it took the request is not known.
    Broken(String),
    /// No service listens.
    NoService,
}

/// Asks the service that listens at `socket`, with the `content` of a mail where the request has one.
pub async fn ask(socket: &Path, request: &Request, content: &[u8], patience: Duration) -> Way {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Way::NoService;
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Way::Broken(format!(
                "{}: {error}: only root, the service's own user and those whom `[control] mode` and `group` let in may \
                 connect",
                socket.display()
            ));
        }
        Err(error) => return Way::Broken(format!("{}: {error}", socket.display())),
    };
    match tokio::time::timeout(patience, converse(stream, request, content)).await {
        Ok(Ok(reply)) => Way::Answered(reply),
        Ok(Err(error)) => Way::Broken(format!("the service went away before it answered: {error}")),
        Err(_) => Way::Broken(format!("the service did not answer within {} s", patience.as_secs())),
    }
}

async fn converse(stream: UnixStream, request: &Request, content: &[u8]) -> io::Result<Reply> {
    let mut stream = BufReader::new(stream);
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line).await?;
    stream.get_mut().write_all(content).await?;
    let mut reply = String::new();
    stream.read_line(&mut reply).await?;
    Ok(serde_json::from_str(&reply)?)
}
