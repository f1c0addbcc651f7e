//! As much of the errors of the command line as its configuration file needs.

use std::fmt;

pub(crate) const DATA: u8 = 65;
pub(crate) const NO_INPUT: u8 = 66;

#[derive(Debug)]
pub(crate) struct CommandError(String);

impl CommandError {
    pub(crate) fn new(_code: u8, text: impl Into<String>) -> Self {
        CommandError(text.into())
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
