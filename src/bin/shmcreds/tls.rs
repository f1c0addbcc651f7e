//! Clients over HTTPS: other hosts of a private network. The certificate is read again when its files change.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use shmcreds::{endpoint::http::Listener, regular_file};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    command_error::{CONFIGURATION, CommandError},
    errno::told,
};

/// A chain of certificates, or a key, needs less.
const LONGEST: u64 = 1024 * 1024;

/// Which version of the two files was read.
type Stamp = [(i64, i64, u64, u64); 2];

/// The certificate and its key.
pub(crate) struct Certificate {
    files: [PathBuf; 2],
    current: Mutex<Current>,
}

struct Current {
    stamp: Stamp,
    config: Arc<ServerConfig>,
    /// Why later files were not read. Each client tries again.
    problem: Option<String>,
}

impl Certificate {
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Arc<Self>, CommandError> {
        let files = [certificate.to_owned(), key.to_owned()];
        let (stamp, config) =
            load(&files).map_err(|text| CommandError::new(CONFIGURATION, text))?;
        let current = Mutex::new(Current { stamp, config, problem: None });
        Ok(Arc::new(Certificate { files, current }))
    }

    /// The newest certificate. If it cannot be read, the one before: a pair of files does not change at once.
    fn newest(&self) -> Arc<ServerConfig> {
        let (config, problem) = self.renewed();
        if let Some(problem) = problem {
            tracing::warn!("the certificate before is used: {problem}");
        }
        config
    }

    /// The newest one that can be read, and a problem that was not told yet.
    fn renewed(&self) -> (Arc<ServerConfig>, Option<String>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problem = None;
        if stamp(&self.files).is_ok_and(|stamp| stamp != current.stamp) {
            match load(&self.files) {
                Ok((stamp, config)) => *current = Current { stamp, config, problem: None },
                Err(text) if current.problem.as_ref() == Some(&text) => {}
                Err(text) => problem = Some(current.problem.insert(text).clone()),
            }
        }
        (Arc::clone(&current.config), problem)
    }
}

fn stamp(files: &[PathBuf; 2]) -> io::Result<Stamp> {
    let of = |file: &PathBuf| {
        let found = fs::metadata(file)?;
        Ok::<_, io::Error>((found.mtime(), found.mtime_nsec(), found.ino(), found.size()))
    };
    Ok([of(&files[0])?, of(&files[1])?])
}

fn load(files: &[PathBuf; 2]) -> Result<(Stamp, Arc<ServerConfig>), String> {
    let [certificate, key] = files;
    // Before the files are read: what changes meanwhile is read again.
    let stamp = stamp(files).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("--tls-certificate {certificate}, --tls-key {key}: {}", told(&error))
    })?;
    let read = |option: &str, file: &Path| {
        regular_file(file, LONGEST)
            .map_err(|error| format!("{option} {}: {}", file.display(), told(&error)))
    };
    let pem = read("--tls-certificate", certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain =
        chain.map_err(|error| format!("--tls-certificate {}: {error}", certificate.display()))?;
    if chain.is_empty() {
        let file = certificate.display();
        return Err(format!("--tls-certificate {file}: it contains no certificate in PEM"));
    }
    let secret = PrivateKeyDer::from_pem_slice(&read("--tls-key", key)?)
        .map_err(|_| format!("--tls-key {}: it contains no private key in PEM", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("--tls-certificate {certificate} and --tls-key {key}: {error}")
        })?;
    Ok((stamp, Arc::new(config)))
}

/// Clients over HTTPS.
pub(crate) struct Tls {
    listener: TcpListener,
    certificate: Arc<Certificate>,
}

impl Tls {
    /// Needs an async runtime.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        certificate: Arc<Certificate>,
    ) -> io::Result<Self> {
        Ok(Tls { listener: TcpListener::from_std(listener)?, certificate })
    }
}

impl Listener for Tls {
    type Raw = TcpStream;
    type Stream = TlsStream<TcpStream>;

    async fn accept(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    async fn open(&self, stream: TcpStream) -> io::Result<Self::Stream> {
        let _ = stream.set_nodelay(true);
        TlsAcceptor::from(self.certificate.newest()).accept(stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_cannot_be_read_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["certificate", "key"].map(|name| folder.path().join(name));
        let write = || {
            let pair = rcgen::generate_simple_self_signed(["host".to_owned()]).unwrap();
            fs::write(&certificate, pair.cert.pem()).unwrap();
            fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        };
        write();
        let read = Certificate::read(&certificate, &key).unwrap();
        assert!(read.renewed().1.is_none());
        for _ in 0..2 {
            fs::write(&certificate, "no certificate").unwrap();
            let (before, problem) = read.renewed();
            assert!(problem.unwrap().contains("no certificate in PEM"));
            assert!((0..10).all(|_| read.renewed().1.is_none()), "each client tries again");
            write();
            let (next, problem) = read.renewed();
            assert!(problem.is_none() && !Arc::ptr_eq(&next, &before));
        }
    }
}
