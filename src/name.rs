//! The name of a session, checked.

use std::fmt;

use nix::unistd::{Uid, geteuid};

use crate::error::{ErrorKind, Fault};

const MAX: usize = 64;

/// A valid session name, among those of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionName {
    name: String,
    /// The user whom the process was when the name was given. It may become another one later, and the session
    /// stays where it is.
    uid: Uid,
}

impl SessionName {
    /// 1 to 64 ASCII letters, digits, `.`, `_` or `-`, the first a letter or digit: what is safe in
    /// a file name, a log line and a shell.
    pub(crate) fn new(name: &str) -> Result<Self, Fault> {
        let problem = if name.is_empty() {
            Some("is empty".to_owned())
        } else if name.len() > MAX {
            Some(format!("has {} bytes", name.len()))
        } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Some("does not start with a letter or digit".to_owned())
        } else {
            name.chars()
                .find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c)))
                .map(|c| format!("contains {c:?}"))
        };
        match problem {
            None => Ok(SessionName { name: name.to_owned(), uid: geteuid() }),
            Some(problem) => Err(Fault::new(
                ErrorKind::InvalidInput,
                format!(
                    "name {problem}; it must be 1 to {MAX} ASCII letters, digits, '.', '_' or '-', \
                     starting with a letter or digit"
                ),
            )),
        }
    }

    /// The shared memory object that holds the segment.
    pub(crate) fn segment(&self) -> String {
        format!("/{}{}", prefix(self.uid), self.name)
    }

    /// What the objects of all this user's segments begin with, in the directory of shared memory.
    pub(crate) fn segment_prefix() -> String {
        prefix(geteuid())
    }

    /// The object whose bytes are locked. A file of its own: closing any descriptor of a file drops
    /// a process's locks on it, and the segment's descriptors come and go.
    pub(crate) fn lock(&self) -> String {
        // No session name contains '@', so no segment can be taken for a lock.
        format!("{}@lock", self.segment())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether both are names of one user.
    pub(crate) fn same_user(&self, other: &SessionName) -> bool {
        self.uid == other.uid
    }
}

fn prefix(uid: Uid) -> String {
    format!("shmcreds-{uid}-")
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
