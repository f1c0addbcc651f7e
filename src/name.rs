//! The validated name of a session.

use std::{fmt, sync::Arc};

use nix::unistd::{Uid, geteuid};

use crate::error::{ErrorKind, Fault};

const MAX: usize = 64;

/// A valid session name of one user, and the directory of the files that belong to it.
#[derive(Clone, Debug)]
pub(crate) struct SessionName {
    name: String,
    /// The user id of the process when the name was made. The process may change its user id later; the session keeps its
    /// files.
    uid: Uid,
    /// `None` for a session in memory files, and before a directory is chosen.
    directory: Option<Arc<str>>,
}

impl SessionName {
    /// Checks the name: 1 to 64 ASCII letters, digits, `.`, `_` or `-`, and the first one a letter or digit. Such a name is
    /// safe in a file name, a log line and a shell.
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
            None => Ok(SessionName { name: name.to_owned(), uid: geteuid(), directory: None }),
            Some(problem) => Err(Fault::new(
                ErrorKind::InvalidInput,
                format!(
                    "name {problem}; it must be 1 to {MAX} ASCII letters, digits, '.', '_' or '-', \
                     starting with a letter or digit"
                ),
            )),
        }
    }

    /// The same name, of a session of the user `uid`.
    pub(crate) fn of_user(&self, uid: u32) -> Self {
        SessionName { uid: Uid::from_raw(uid), ..self.clone() }
    }

    /// The user to whom the files belong.
    pub(crate) fn user(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The same name with its files in `directory`.
    pub(crate) fn in_directory(&self, directory: &Arc<str>) -> Self {
        SessionName { directory: Some(Arc::clone(directory)), ..self.clone() }
    }

    /// The directory of its files; `None` when it has none.
    pub(crate) fn directory(&self) -> Option<&Arc<str>> {
        self.directory.as_ref()
    }

    /// The path of the segment. For a session in memory files, the name that people see in `/proc`.
    pub(crate) fn segment(&self) -> String {
        let file = format!("{}{}", prefix(self.uid), self.name);
        match &self.directory {
            Some(directory) => format!("{directory}/{file}"),
            None => file,
        }
    }

    /// The common prefix of the files of all segments of this user.
    pub(crate) fn segment_prefix() -> String {
        prefix(geteuid())
    }

    /// The path of the lock file. It is a separate file: when a process closes any descriptor of a file, it loses all its
    /// locks on that file, and descriptors of the segment are opened and closed often.
    pub(crate) fn lock(&self) -> String {
        // No session name contains '@', so no segment has the name of a lock file.
        format!("{}@lock", self.segment())
    }

    /// The path of the socket at which the refresher of a pool is asked.
    pub(crate) fn asks(&self) -> String {
        format!("{}@ask", self.segment())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether both are the same name of the same user. The directory does not matter: a process attaches by the
    /// name alone.
    pub(crate) fn is_same(&self, other: &SessionName) -> bool {
        self.name == other.name && self.same_user(other)
    }

    /// Whether both names belong to the same user.
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
