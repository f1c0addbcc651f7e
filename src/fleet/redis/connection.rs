//! A connection for one verb. It ends with the value.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use redis::{
    AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, aio::MultiplexedConnection,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::place::Address;
use crate::{errno, fleet::store::StoreError, source::user_file};

/// The most bytes that a connection reads. A set has 32 KiB at most, and the other answers are short.
const MOST_BYTES: usize = 256 * 1024;

/// The most characters of an error of the server that are shown.
const LONGEST_ERROR: usize = 160;

pub(super) struct Connection {
    pub(super) address: Address,
    pub(super) redis: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Connection {
    pub(super) async fn new(
        address: &Address,
        tls: Option<Arc<ClientConfig>>,
        settings: &RedisConnectionInfo,
    ) -> Result<Self, StoreError> {
        let lost = |error: io::Error| StoreError::unreachable(format!("{address}: {error}"));
        let (host, port) = match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(lost)?;
                return Self::over(stream, address, settings).await;
            }
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let Some(tls) = tls else { return Self::over(stream, address, settings).await };
        let name = ServerName::try_from(host.to_owned());
        let name =
            name.map_err(|_| StoreError::wrong(format!("{host:?} is no name of a server")))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(lost)?;
        Self::over(stream, address, settings).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: &Address,
        settings: &RedisConnectionInfo,
    ) -> Result<Self, StoreError> {
        // The caller limits the time.
        let never =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let stream = Limited { stream, left: MOST_BYTES };
        let made = MultiplexedConnection::new_with_config(settings, stream, never).await;
        let (redis, driver) = made.map_err(|error| told(&error))?;
        Ok(Connection { address: address.clone(), redis, driver: tokio::spawn(driver) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The error without what the server may have put into it beyond its beginning.
pub(super) fn told(error: &RedisError) -> StoreError {
    let mut text = error.to_string().replace(|c: char| c.is_control(), " ");
    text.truncate(text.floor_char_boundary(LONGEST_ERROR));
    let lost = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
    match lost || error.kind() == ErrorKind::AuthenticationFailed {
        true => StoreError::unreachable(text),
        false => StoreError::wrong(text),
    }
}

/// The settings of TLS. They do not depend on what the program chose for itself.
pub(super) fn tls(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, StoreError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(file) => {
            let failed = |problem: String| {
                StoreError::unreachable(format!("the CA file {}: {problem}", file.display()))
            };
            let read = user_file::read(file).map_err(|error| failed(errno::told(&error)))?;
            let found = CertificateDer::pem_slice_iter(&read);
            roots.add_parsable_certificates(found.filter_map(Result::ok));
            if roots.is_empty() {
                return Err(failed("it has no certificate in PEM".into()));
            }
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::unreachable(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A stream that ends after a number of bytes, so that no server can fill the memory.
struct Limited<S> {
    stream: S,
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the store answers with too many bytes")));
        }
        let room = self.left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let outcome = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let read = part.filled().len();
        buffer.advance(read);
        self.left -= read;
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
