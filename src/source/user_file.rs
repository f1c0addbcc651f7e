//! Files that users write or get from other programs: config files, certificates, keys, tokens.
//!
//! A path may lead to anything. Nothing here waits for a writer, and nothing reads without an end.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

/// What some editors, mostly of Windows, write first into a text file.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// No file that is read here needs more.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The content without a byte order mark.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    bytes(path).map(without_mark)
}

pub(super) fn without_mark(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    match bytes.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => Zeroizing::new(text.to_vec()),
        None => bytes,
    }
}

/// The content.
///
/// # Errors
/// The file is absent or cannot be read, is a pipe, a socket or a terminal, or is too long.
pub(super) fn bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    content(&open(path)?)
}

/// Opens the file for [`content`].
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait for a writer, and a terminal could become that of this process.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// The content of a file that [`open`] has opened. The errors are those of [`bytes`].
pub(crate) fn content(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other(
            "it is a pipe, must be a file: it is read again for each set",
        ));
    }
    up_to(file, LONGEST)
}

pub(super) fn up_to(file: &File, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    match file.take(longest + 1).read_to_end(&mut bytes) {
        Ok(length) if length as u64 > longest => Err(too_long(longest)),
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::other(
            "it is a terminal or another device without content, must be a file",
        )),
        Err(error) => Err(error),
    }
}

pub(super) fn too_long(longest: u64) -> io::Error {
    io::Error::other(format!("it has more than {longest} bytes"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_without_a_wait() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        mkfifo(&place("pipe"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        symlink(place("b"), place("a")).unwrap();
        symlink(place("a"), place("b")).unwrap();
        fs::File::create(place("huge")).unwrap().set_len(1 << 30).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        for (name, problem) in [
            ("pipe", "it is a pipe"),
            ("a", "ELOOP"),
            ("huge", "more than 4194304 bytes"),
            ("socket", "ENXIO"),
            (".", "EISDIR"),
            ("absent", "ENOENT"),
        ] {
            let error = crate::errno::told(&bytes(&place(name)).unwrap_err());
            assert!(error.contains(problem), "{name}: {error}");
        }
        let endless = bytes(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.to_string().contains("more than"), "{endless}");
        let terminal = nix::pty::openpty(None, None).unwrap();
        let name = nix::unistd::ttyname(&terminal.slave).unwrap();
        let error = bytes(&name).unwrap_err();
        assert!(error.to_string().contains("is a terminal"), "{error}");
        assert_eq!(bytes(Path::new("/dev/null")).unwrap().len(), 0);
    }

    #[test]
    fn the_longest_file_is_read_and_its_mark_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![b'x'; LONGEST as usize]).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, LONGEST);
        fs::write(&path, "\u{feff}text").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"text");
        assert_eq!(bytes(&path).unwrap().len(), 7);
    }
}
