//! An error of the program: one line for people, and an exit code of `sysexits.h` for programs.

use std::{fmt, io, process::ExitCode};

use shmcreds::{Error, ErrorKind};

use crate::{errno::told, log};

pub(crate) const USAGE: u8 = 64;
pub(crate) const DATA: u8 = 65;
pub(crate) const NO_INPUT: u8 = 66;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const SYSTEM: u8 = 71;
pub(crate) const CANNOT_CREATE: u8 = 73;
pub(crate) const NO_PERMISSION: u8 = 77;
pub(crate) const CONFIGURATION: u8 = 78;

#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) code: u8,
    text: String,
}

impl CommandError {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        CommandError { code, text: text.into() }
    }

    pub(crate) fn report(&self) -> ExitCode {
        log::say(&self.text);
        ExitCode::from(self.code)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        use ErrorKind as Kind;
        let code = match error.kind() {
            Kind::InvalidInput => USAGE,
            Kind::InUse => CANNOT_CREATE,
            Kind::ForeignOwner | Kind::InsecureMode | Kind::NotAFile => NO_PERMISSION,
            Kind::TooSmall | Kind::Uninitialized | Kind::WrongMagic => DATA,
            Kind::WrongVersion | Kind::BadChecksum | Kind::WrongSource => DATA,
            Kind::Misconfigured => CONFIGURATION,
            Kind::System | Kind::NoSpace | Kind::Unsupported | Kind::Multithreaded => SYSTEM,
            _ => UNAVAILABLE,
        };
        let hint = match error.kind() {
            Kind::Absent => "; `shmcreds list` shows the existing sessions",
            _ => "",
        };
        CommandError::new(code, format!("{error}{hint}"))
    }
}

/// Says what a failed system call was for.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, CommandError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, CommandError> {
        self.map_err(|error| CommandError::new(SYSTEM, format!("{what}: {}", told(&error.into()))))
    }
}
