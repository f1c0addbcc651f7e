//! The pool of roles that `exec` and `serve` keep.

use std::{path::Path, sync::Arc, time::Duration};

use shmcreds::{Error, SharedRoles, SharedRolesBuilder};

use crate::{
    arguments,
    command_error::CommandError,
    log,
    role_book::{RoleBook, Tokens},
    roles_file::RolesFile,
    session::{ADVISORY, MANDATORY},
    sources,
};

/// The pool allows all roles: the file decides which of them clients get, and may name others later.
const ALL_ROLES: &str = "arn:*:iam::*:role/*";

/// Makes the pool of `serve`, or continues with the one that a killed `serve` has left and that other processes use.
pub(crate) fn create_or_continue(
    name: &str,
    options: &arguments::Session,
    path: &Path,
) -> Result<RoleBook, CommandError> {
    make(name, options, path, Tokens::InFiles, |builder| {
        // Who continues with a pool is not its creator, and has to remove it all the same.
        builder.removed_by_last_user().attach_or_create()
    })
}

/// Makes the pool of `exec`. The process must have one thread.
pub(crate) fn create(
    name: &str,
    options: &arguments::Session,
    path: &Path,
) -> Result<RoleBook, CommandError> {
    make(name, options, path, Tokens::Here, SharedRolesBuilder::create)
}

fn make(
    name: &str,
    options: &arguments::Session,
    path: &Path,
    tokens: Tokens,
    make: impl FnOnce(SharedRolesBuilder) -> Result<SharedRoles, Error>,
) -> Result<RoleBook, CommandError> {
    #[cfg(feature = "fleet")]
    if options.fleet.is_given() {
        let text = "--fleet cannot be used with --roles: a pool takes no part in a fleet";
        return Err(CommandError::new(crate::command_error::USAGE, text));
    }
    let file = RolesFile::read(path)?;
    log::learn(file.secrets());
    let base = sources::build(&options.source)?;
    let mut builder = SharedRoles::builder(name)
        .base_source(Arc::clone(&base))
        .allow(ALL_ROLES)
        .advisory_window(ADVISORY)
        .mandatory_window(MANDATORY)
        .wait_timeout(Duration::from_secs(options.deadline));
    if let Some(capacity) = file.capacity {
        builder = builder.capacity(capacity);
    }
    if let Some(calls) = file.calls_per_second {
        builder = builder.calls_per_second(calls);
    }
    let roles = make(builder)?;
    Settings::of(&file).warn(&roles);
    RoleBook::new(roles, base, path.to_owned(), file, tokens, options.is_eager())
}

/// What the file says of the pool itself.
pub(crate) struct Settings {
    capacity: Option<usize>,
    calls_per_second: Option<u32>,
}

impl Settings {
    pub(crate) fn of(file: &RolesFile) -> Self {
        Settings { capacity: file.capacity, calls_per_second: file.calls_per_second }
    }

    /// Says that the pool keeps the settings that it was made with, if these are others.
    pub(crate) fn warn(&self, roles: &SharedRoles) {
        let Ok(status) = roles.status() else { return };
        let calls = |calls: u32| usize::try_from(calls).unwrap_or(usize::MAX);
        let rate = (self.calls_per_second.map(calls), calls(status.calls_per_second()));
        for (setting, (asked, is)) in
            [("capacity", (self.capacity, status.capacity())), ("calls-per-second", rate)]
        {
            if let Some(asked) = asked.filter(|asked| *asked != is) {
                tracing::warn!(
                    "{setting} stays {is}, although the roles file says {asked}: a pool keeps what it was made with"
                );
            }
        }
    }
}
