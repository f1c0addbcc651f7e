//! Certificates and keys in PEM: from a file, or from a text.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    hexadecimal,
    source::{
        fingerprint::{FingerprintEncoder, environment},
        portable::PortablePem,
        user_file::{self, BYTE_ORDER_MARK},
    },
};

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

    pub(in crate::source) fn portable(&self) -> PortablePem {
        match &self.0 {
            Content::File(path) => PortablePem::File(path.clone()),
            Content::Text(text) => PortablePem::Text(text.to_vec()),
        }
    }

    fn read(&self, field: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        match &self.0 {
            Content::File(path) => user_file::read(path).map_err(|error| {
                format!("{field} {path:?} cannot be read: {}", crate::errno::told(&error))
            }),
            Content::Text(text) => {
                let without_mark = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
                Ok(without_mark.to_vec().into())
            }
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
                f.write_str(&hexadecimal::text(&digest[..8]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_certificate_or_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pem");
        for mark in ["", "\u{feff}"] {
            let certificate =
                format!("{mark}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
            let key =
                format!("{mark}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
            std::fs::write(&path, &certificate).unwrap();
            for pem in [Pem::file(&path), Pem::text(certificate)] {
                assert_eq!(pem.certificates("certificate").unwrap().len(), 1, "{mark:?}");
            }
            std::fs::write(&path, &key).unwrap();
            for pem in [Pem::file(&path), Pem::text(key)] {
                assert!(pem.key("private_key").is_ok(), "{mark:?}");
            }
        }
    }
}
