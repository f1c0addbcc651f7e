//! Files that the command line names: read once when the program starts, or again later.
//!
//! A path may lead to anything. Nothing here waits without an end.

use std::{
    fs::{self, File, FileType},
    io::{self, Read},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use zeroize::Zeroizing;

use super::user_file::{open, too_long, up_to, without_mark};

/// The content of a regular file of `longest` bytes at most, without a byte order mark: of one that is read again later.
///
/// # Errors
/// The file is absent or cannot be read, is no regular file, or is too long.
pub fn regular_file(path: &Path, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // First the path: to open a device may change its state. Then the file, because the path may lead to another one by then.
    check_regular(fs::metadata(path)?.file_type())?;
    let file = open(path)?;
    check_regular(file.metadata()?.file_type())?;
    up_to(&file, longest).map(without_mark)
}

/// The content of a file that is read once, of `longest` bytes at most, without a byte order mark. It may be a pipe: what
/// is written into that within `patience`.
///
/// # Errors
/// As [`regular_file`]. A device without an end, and a pipe that no program closes in time, are too long.
pub fn file_or_pipe(
    path: &Path,
    longest: u64,
    patience: Duration,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open(path)?;
    let bytes = match file.metadata()?.file_type().is_fifo() {
        true => piped(&file, longest, patience),
        false => up_to(&file, longest),
    };
    bytes.map(without_mark)
}

fn check_regular(kind: FileType) -> io::Result<()> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::other(format!("it is {what}, must be a regular file: it is read again later")))
}

/// What programs write into a pipe until the last one has closed it.
fn piped(mut file: &File, longest: u64, patience: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    let (end, mut bytes) = (Instant::now() + patience, Zeroizing::new(Vec::new()));
    let mut part = Zeroizing::new([0; 4096]);
    loop {
        // Not `read` first: it finds the end of a pipe into which no program has written yet.
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => {
                return Err(io::Error::other(format!(
                    "it is a pipe, and no program has written into it and closed it within {patience:?}"
                )));
            }
            Err(Errno::EINTR) => continue,
            polled => polled.map(drop)?,
        }
        match file.read(&mut *part) {
            Ok(0) => return Ok(bytes),
            Ok(length) if (bytes.len() + length) as u64 > longest => return Err(too_long(longest)),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::OpenOptions,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_a_regular_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        mkfifo(&place("pipe"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let _socket = UnixListener::bind(place("socket")).unwrap();
        symlink(place("pipe"), place("link")).unwrap();
        fs::write(place("file"), "\u{feff}text").unwrap();
        symlink(place("file"), place("link to a file")).unwrap();
        for (path, problem) in [
            (place("pipe"), "it is a pipe, must be a regular file"),
            (place("link"), "it is a pipe"),
            (place("socket"), "it is a socket"),
            (folder.path().to_owned(), "it is a directory"),
            ("/dev/null".into(), "it is a device"),
            ("/dev/zero".into(), "it is a device"),
            (place("absent"), "ENOENT"),
        ] {
            let error = crate::errno::told(&regular_file(&path, 4).unwrap_err());
            assert!(error.contains(problem), "{path:?}: {error}");
        }
        assert_eq!(regular_file(&place("link to a file"), 7).unwrap().as_slice(), b"text");
        let error = regular_file(&place("file"), 6).unwrap_err().to_string();
        assert!(error.contains("more than 6 bytes"), "{error}");
    }

    #[test]
    fn what_is_read_once_may_be_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let read = |patience| file_or_pipe(&path, 9000, patience);
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(600));
        let written = |text: Vec<u8>| {
            let path = path.clone();
            // It waits until the pipe is read.
            let writer = std::thread::spawn(move || fs::write(path, text));
            let found = read(long);
            // It has written all, or the pipe was closed before.
            let _ = writer.join().unwrap();
            found
        };
        assert!(read(short).unwrap_err().to_string().contains("no program has written into it"));
        assert_eq!(*written(vec![b'x'; 9000]).unwrap(), vec![b'x'; 9000]);
        let error = written(vec![b'x'; 9001]).unwrap_err().to_string();
        assert!(error.contains("more than 9000 bytes"), "{error}");
        // A program that has the pipe and does not close it.
        let _writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(read(short).unwrap_err().to_string().contains("closed it within"));
    }
}
