//! Files that users write or get from other programs: certificates, keys, tokens.

use std::{fs, io, path::Path};

use zeroize::Zeroizing;

/// What some editors, mostly of Windows, write first into a text file.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The content without a byte order mark.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(fs::read(path)?);
    Ok(match bytes.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => Zeroizing::new(text.to_vec()),
        None => bytes,
    })
}
