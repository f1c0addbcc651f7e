//! The error type of the library: a kind to match on, the operation, the session, and a source chain. The text is for
//! people and may change; [`ErrorKind`] is for programs.

use std::{fmt, time::Duration};

use crate::errno;

/// The boxed error that an [`Error`] keeps as its source.
type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The kind of an error, for programs that handle it.
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
    /// The kernel does not support a requested feature.
    Unsupported,
    /// The segment or its lock file belongs to another user.
    ForeignOwner,
    /// The segment or its lock file can be accessed by the group or by others.
    InsecureMode,
    /// The name belongs to a symbolic link, or to another object that is not a regular file.
    NotAFile,
    /// The segment or its lock file is too short.
    TooSmall,
    /// The segment exists, but its creator has not finished it in time.
    Uninitialized,
    /// The memory is not a shmcreds segment.
    WrongMagic,
    /// The segment has another layout version.
    WrongVersion,
    /// The checksum of the header or of a set is wrong.
    BadChecksum,
    /// The session uses another source than the given one.
    WrongSource,
    /// The pool does not allow this role.
    NotAllowed,
    /// All entries of the pool are in use.
    Full,
    /// Shared memory is full, limited, read-only or not available.
    NoSpace,
    /// The directory of the segments cannot hold secrets. For example, it is on a disk, or a symbolic link leads to it.
    Misconfigured,
    /// The source refused, and another attempt cannot help. For example, access is denied, or the credentials for the call
    /// have expired.
    SourceTerminal,
    /// The source failed temporarily. For example, with a timeout or a server error.
    SourceTransient,
    /// The source throttles its callers.
    SourceThrottled,
    /// The source is configured wrongly. For example, the request is invalid, or there are no credentials for the call.
    SourceMisconfigured,
    /// No valid credentials arrived in time.
    Timeout,
    /// There are no valid credentials, and this process has no source.
    NoSource,
    /// The source's sets do not live as long as the caller needs. Another call of the source cannot help.
    TooShort,
    /// The source's set is too large for shared memory; the message names both sizes. Another call cannot help.
    TooLarge,
    /// A [`Term`](crate::Term) is over: its lease ended, or it belongs to the process that this one was forked from.
    TermOver,
    /// Other code of this process has closed a file descriptor of the session.
    DescriptorClosed,
    /// A system call failed unexpectedly.
    System,
}

/// An error of this library.
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
    /// Whether the same call may succeed later, without a change of the program, its configuration or its permissions.
    pub fn is_retryable(self) -> bool {
        match self {
            ErrorKind::InUse
            | ErrorKind::Uninitialized
            | ErrorKind::NoSpace
            | ErrorKind::Full
            | ErrorKind::SourceTransient
            | ErrorKind::SourceThrottled
            | ErrorKind::Timeout
            | ErrorKind::NoSource
            | ErrorKind::TermOver
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
            | ErrorKind::Misconfigured
            | ErrorKind::NotAllowed
            | ErrorKind::SourceTerminal
            | ErrorKind::SourceMisconfigured
            | ErrorKind::TooShort
            | ErrorKind::TooLarge
            | ErrorKind::DescriptorClosed => false,
        }
    }
}

impl Error {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later, without a change of the program, its configuration or its
    /// permissions. See [`retry_after`](Self::retry_after) for when.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }

    /// How long the back-off lasts, from the creation of the error: no process asks the source again before. `None` when
    /// the source did not fail, or the next attempt may start at once.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The operation that failed: `"create"`, `"attach"`, `"credentials"`, …
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The name of the session.
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

/// The error type of the lower layers: an [`Error`] without operation and session.
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

    /// A failed system call. `doing` describes the step and its object.
    pub(crate) fn system(doing: &str, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        Fault {
            kind: ErrorKind::System,
            message: format!("{doing}: {}", errno::told(&error)),
            retry_after: None,
            cause: Some(Box::new(error)),
        }
    }

    /// Says more about what to do.
    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        self.message = format!("{}; {advice}", self.message);
        self
    }

    pub(crate) fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the time until the source may be asked again.
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

    /// Adds the operation and the session.
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
