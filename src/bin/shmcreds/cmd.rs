//! CMD: its program, and the environment in which it finds the endpoint.

use std::{io, process::Command};

use shmcreds::endpoint::{environment, memory_files::MemoryFiles};

use crate::{
    arguments::Exec,
    cmd_environment,
    command_error::{CommandError, Doing, SYSTEM},
    endpoint::Endpoint,
    errno::told,
    kept::{Kept, Offer},
    old_clients, sources,
};

const NO_PLACE_FOR_HELPER: &str = "--credential-process needs a file in /dev/shm, and shmcreds cannot write there: mount \
     a tmpfs there, or use --static-keys";

/// CMD, with an environment in which every SDK finds only the endpoint.
pub(crate) fn command(
    options: &Exec,
    kept: &Kept,
    offer: &Offer,
    files: Option<&MemoryFiles>,
    endpoint: &Endpoint,
) -> Result<Command, CommandError> {
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    cmd_environment::clear(&mut command);
    #[cfg(feature = "fleet")]
    if let Some(variable) = options.session.fleet.key_variable() {
        command.env_remove(variable);
    }
    cmd_environment::bypass_proxies(&mut command);
    let role = options.role.as_deref();
    let profile = sources::chosen_profile(&options.session.source);
    let region = profile.region().unwrap_or_else(|failure| {
        // CMD may need no Region.
        tracing::warn!("CMD gets no Region: {failure}");
        None
    });
    cmd_environment::keep_region(&mut command, region.as_deref());
    // CMD may need neither. The directory may be full.
    let write = |name, text: &str| {
        let written = files?.write(name, text);
        let warn = |e: &io::Error| tracing::warn!("CMD gets no {name}file: {}", told(e));
        written.inspect_err(warn).ok()
    };
    if !options.keep_aws_files {
        let mut settings = profile.without_credentials();
        let mut keys = None;
        if options.credential_process {
            let helper =
                old_clients::helper(kept.name(), role).doing("finding the shmcreds program")?;
            settings = old_clients::with_helper(&settings, &helper);
            keys = write("credentials-", &format!("[default]\n{helper}"));
            if keys.is_none() {
                return Err(CommandError::new(SYSTEM, NO_PLACE_FOR_HELPER));
            }
        }
        let settings = write("config-", &settings);
        let null = || "/dev/null".into();
        command.env("AWS_CONFIG_FILE", settings.unwrap_or_else(null));
        command.env("AWS_SHARED_CREDENTIALS_FILE", keys.unwrap_or_else(null));
    }
    let token = &offer.token;
    if let Some(token) = write("token-", token) {
        command.env(environment::TOKEN_FILE, token);
    }
    command
        .env(environment::URI, endpoint.url(&offer.path))
        .env(environment::TOKEN, token)
        .env("SHMCREDS_SESSION", kept.name())
        .env_remove("SHMCREDS_ROLES")
        .env_remove("SHMCREDS_ASKED_BY")
        // What the Python package has set aside for itself.
        .env_remove("SHMCREDS_EXPORTED");
    match kept {
        Kept::Session(session) => session.pass_to(&mut command)?,
        Kept::Roles(book) => {
            let directory = book.directory(&endpoint.url(""));
            if let Some(file) = write("roles-", &directory) {
                command.env("SHMCREDS_ROLES", file);
            }
        }
    }
    Ok(command)
}
