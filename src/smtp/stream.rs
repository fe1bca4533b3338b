//! The stream of a connection: as it came, or encrypted.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::mail;

use super::tls;

/// How much may wait to be encrypted and sent, in bytes: some of the longest replies. rustls holds at most one
/// record of each direction beside it.
const BUFFER: usize = 16 << 10;

/// A stream that can become encrypted.
pub enum Stream<S> {
    /// As it came.
    Plain(S),
    /// Encrypted. On the heap, as most clients of a plain listener never need its room.
    Encrypted(Box<TlsStream<S>>),
    /// Neither: the handshake is under way or failed.
    Lost,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Waits for the client's handshake. What was read before it is the caller's to forget.
    ///
    /// # Errors
    /// The handshake failed; the client was told by an alert, and the stream cannot be used any more.
    pub async fn encrypt(&mut self, server: Arc<ServerConfig>) -> io::Result<mail::Tls> {
        let Self::Plain(stream) = std::mem::replace(self, Self::Lost) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let limit = |connection: &mut rustls::ServerConnection| connection.set_buffer_limit(Some(BUFFER));
        let stream = TlsAcceptor::from(server).accept_with(stream, limit).await?;
        let tls = tls::describe(stream.get_ref().1);
        *self = Self::Encrypted(Box::new(stream));
        Ok(tls)
    }
}

fn lost<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(ErrorKind::NotConnected.into()))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Encrypted(stream) => match Pin::new(stream).poll_read(context, into) {
                // The end without close_notify. A mail ends by its own mark, so that a cut is seen without.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                outcome => outcome,
            },
            Self::Lost => lost(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Lost => lost(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
            Self::Lost => lost(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Lost => lost(),
        }
    }
}
