//! Files with a secret: a password, or keys. They are read for each use, and wiped after it.

use std::{io, os::unix::fs::MetadataExt, path::Path};

use zeroize::Zeroizing;

use crate::{errno, source::user_file};

/// The text of a file.
///
/// # Errors
/// What is wrong with the file, without its content.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    read_if(path, |_| Ok(()))
}

/// The text of a file whose mode has none of these bits.
///
/// # Errors
/// What is wrong with the file, without its content.
pub(super) fn read_without(bits: u32, path: &Path) -> Result<Zeroizing<String>, String> {
    read_if(path, |mode| match mode & bits {
        0 => Ok(()),
        _ => Err(format!(
            "it has mode {:o}: other users can read or change it; it must be {:04o} or stricter",
            mode & 0o777,
            0o644 & !bits,
        )),
    })
}

fn read_if(
    path: &Path,
    check: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Zeroizing<String>, String> {
    let told = |error: io::Error| errno::told(&error);
    let file = user_file::open(path).map_err(told)?;
    check(file.metadata().map_err(told)?.mode())?;
    let bytes = user_file::content(&file).map_err(told)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.trim_start_matches('\u{feff}').to_owned())),
        Err(_) => Err("it is no text in UTF-8".into()),
    }
}
