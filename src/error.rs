//! The one error of the library: a kind to match on, the operation and the session it concerns,
//! and a source chain. Its wording is for people and may change; [`ErrorKind`] is for programs.

use std::{fmt, time::Duration};

/// The boxed error that an [`Error`] keeps as its source.
type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, as far as a program can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value given to a builder breaks a rule; the message names the field, the problem and the rule.
    InvalidInput,
    /// There is no session of that name for this user.
    Absent,
    /// A live process still uses a session of that name.
    InUse,
    /// The process has several threads, and the operation forks.
    Multithreaded,
    /// The kernel lacks what was asked for.
    Unsupported,
    /// The segment or its lock file belongs to another user.
    ForeignOwner,
    /// The segment or its lock file can be accessed by the group or by others.
    InsecureMode,
    /// The name leads to a symbolic link or to something else that is not a regular file.
    NotAFile,
    /// The segment is shorter than its header says, or than any segment is.
    TooSmall,
    /// The segment exists but its creator has not finished it in time.
    Uninitialized,
    /// The memory is not a shmcreds segment.
    WrongMagic,
    /// The segment was laid out by another version of the layout.
    WrongVersion,
    /// The header or a set fails its checksum.
    BadChecksum,
    /// The session is fed by another source than the one given.
    WrongSource,
    /// Shared memory is full or not available.
    NoSpace,
    /// The source refused in a way that trying again cannot help: access is denied, the credentials that it
    /// is asked with have expired.
    SourceTerminal,
    /// The source failed in a way that may pass: a time-out, a server error.
    SourceTransient,
    /// The source limits how often it is asked.
    SourceThrottled,
    /// The source cannot work as it is configured: an invalid request, no credentials to begin with.
    SourceMisconfigured,
    /// Nothing valid arrived before the deadline.
    Timeout,
    /// Nothing valid is there, and this process has no source to ask.
    NoSource,
    /// Other code of this process has closed a file descriptor of the session.
    DescriptorClosed,
    /// The operating system refused something that should have worked.
    System,
}

/// Any failure of this library.
///
/// ```
/// use shmcreds::{ErrorKind, SharedSession};
///
/// let error = SharedSession::attach("no-such-session").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Absent);
/// assert_eq!(error.session(), "no-such-session");
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    session: String,
    message: String,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
}

impl ErrorKind {
    /// Whether the same call may succeed later without a change of the program, its configuration or its
    /// permissions.
    pub fn is_retryable(self) -> bool {
        match self {
            ErrorKind::InUse
            | ErrorKind::Uninitialized
            | ErrorKind::NoSpace
            | ErrorKind::SourceTransient
            | ErrorKind::SourceThrottled
            | ErrorKind::Timeout
            | ErrorKind::NoSource
            | ErrorKind::System => true,
            ErrorKind::InvalidInput
            | ErrorKind::Absent
            | ErrorKind::Multithreaded
            | ErrorKind::Unsupported
            | ErrorKind::ForeignOwner
            | ErrorKind::InsecureMode
            | ErrorKind::NotAFile
            | ErrorKind::TooSmall
            | ErrorKind::WrongMagic
            | ErrorKind::WrongVersion
            | ErrorKind::BadChecksum
            | ErrorKind::WrongSource
            | ErrorKind::SourceTerminal
            | ErrorKind::SourceMisconfigured
            | ErrorKind::DescriptorClosed => false,
        }
    }
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later, without a change of the program, its configuration or its
    /// permissions. See [`retry_after`](Self::retry_after) for when.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }

    /// How long no process asks the source again, counted from when the error was made. `None` when the error
    /// is not one of the source, or the next attempt may be made at once.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What was being done: `"create"`, `"attach"`, `"credentials"`, …
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The name of the session that the operation was about.
    pub fn session(&self) -> &str {
        &self.0.session
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, session, message, .. } = &*self.0;
        write!(f, "{operation} of session {session:?}: {message}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// What the lower layers report: an [`Error`] that does not know yet which operation it belongs to.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into(), retry_after: None, cause: None }
    }

    /// A failed system call, with `doing` in words.
    pub(crate) fn system(doing: &str, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        Fault {
            kind: ErrorKind::System,
            message: format!("{doing}: {error}"),
            retry_after: None,
            cause: Some(Box::new(error)),
        }
    }

    pub(crate) fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Notes when the source may be asked again.
    pub(crate) fn retry_after(mut self, next: Duration) -> Self {
        self.retry_after = Some(next).filter(|next| !next.is_zero());
        self
    }

    pub(crate) fn caused_by(
        mut self,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// Names the operation and the session.
    pub(crate) fn during(self, operation: &'static str, session: &str) -> Error {
        Error(Box::new(Inner {
            kind: self.kind,
            operation,
            session: session.to_owned(),
            message: self.message,
            retry_after: self.retry_after,
            cause: self.cause,
        }))
    }
}
