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

/// Something in PEM: a file, read anew for each set, or its text.
#[derive(Clone)]
pub struct Pem(Place);

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Text(Arc<Zeroizing<Vec<u8>>>),
}

impl Pem {
    /// The file at `path`. What is there when a set is fetched counts, so a renewed certificate is picked up.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Pem(Place::File(path.as_ref().to_owned()))
    }

    /// The text itself, wiped from memory when the last copy of the source is dropped.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Pem(Place::Text(Arc::new(Zeroizing::new(text.into()))))
    }

    fn read(&self, field: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        match &self.0 {
            Place::File(path) => fs::read(path)
                .map(Zeroizing::new)
                .map_err(|error| format!("{field} {path:?} cannot be read: {error}")),
            Place::Text(text) => Ok(text.to_vec().into()),
        }
    }

    /// Adds the place of a file, which may be renewed there, or all of a text.
    pub(super) fn encode(&self, tag: &str, encoder: FingerprintEncoder) -> FingerprintEncoder {
        match &self.0 {
            Place::File(path) => encoder.list(tag, [&b"file"[..], &environment::place_of(path)]),
            Place::Text(text) => encoder.list(tag, [&b"text"[..], text]),
        }
    }

    pub(super) fn certificates(&self, field: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let found =
            CertificateDer::pem_slice_iter(&self.read(field)?).collect::<Result<Vec<_>, _>>();
        match found {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(format!("{field} holds no certificate, must be X.509 in PEM")),
        }
    }

    pub(super) fn key(&self, field: &str) -> Result<PrivateKeyDer<'static>, String> {
        // The parser's own errors may quote what it was given.
        PrivateKeyDer::from_pem_slice(&self.read(field)?).map_err(|_| {
            format!("{field} holds no private key, must be PKCS#8, RSA or EC in PEM, not encrypted")
        })
    }
}

/// Where it comes from; of a text nothing but what stands for it.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => write!(f, "{path:?}"),
            Place::Text(text) => {
                let digest = Sha256::digest(&***text);
                digest[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
