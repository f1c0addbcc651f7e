//! Certificates and keys in PEM: from a file, or from a text.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::source::fingerprint::{FingerprintEncoder, environment};

/// A certificate or key in PEM: a file, which is read for each set, or a text.
#[derive(Clone)]
pub struct Pem(Content);

#[derive(Clone)]
enum Content {
    File(PathBuf),
    Text(Arc<Zeroizing<Vec<u8>>>),
}

impl Pem {
    /// The file at `path`. It is read for each set, so a renewed certificate is used.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Pem(Content::File(path.as_ref().to_owned()))
    }

    /// The text. It is wiped from memory when the last clone of the source is dropped.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Pem(Content::Text(Arc::new(Zeroizing::new(text.into()))))
    }

    fn read(&self, field: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        match &self.0 {
            Content::File(path) => fs::read(path).map(Zeroizing::new).map_err(|error| {
                format!("{field} {path:?} cannot be read: {}", crate::errno::told(&error))
            }),
            Content::Text(text) => Ok(text.to_vec().into()),
        }
    }

    /// Adds the path of a file, because its content may be renewed, or the whole text.
    pub(super) fn encode(&self, tag: &str, encoder: FingerprintEncoder) -> FingerprintEncoder {
        match &self.0 {
            Content::File(path) => encoder.list(tag, [&b"file"[..], &environment::place_of(path)]),
            Content::Text(text) => encoder.list(tag, [&b"text"[..], text]),
        }
    }

    pub(super) fn certificates(&self, field: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let found =
            CertificateDer::pem_slice_iter(&self.read(field)?).collect::<Result<Vec<_>, _>>();
        match found {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(format!("{field} contains no certificate, must be X.509 in PEM")),
        }
    }

    pub(super) fn key(&self, field: &str) -> Result<PrivateKeyDer<'static>, String> {
        // The parser's error text may quote the key.
        PrivateKeyDer::from_pem_slice(&self.read(field)?).map_err(|_| {
            format!(
                "{field} contains no private key, must be PKCS#8, RSA or EC in PEM, not encrypted"
            )
        })
    }
}

/// Shows the path of a file, and only a digest of a text.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::File(path) => write!(f, "{path:?}"),
            Content::Text(text) => {
                let digest = Sha256::digest(&***text);
                digest[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
