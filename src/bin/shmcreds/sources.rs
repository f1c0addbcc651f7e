//! The source that the options describe.

use std::{sync::Arc, time::Duration};

use shmcreds::{AssumeRole, CredentialProcess, IotCore, Pem, Profile, Provider};

use crate::{
    arguments::Source,
    command_error::{CommandError, USAGE},
    role_inputs::RoleInputs,
};

/// The role with its base source, or a source without a role.
pub(crate) fn build(options: &Source) -> Result<Arc<dyn shmcreds::Source>, CommandError> {
    if options.mfa_command.is_some() && options.mfa_serial.is_none() && options.profile.is_none() {
        let text = "--mfa-command needs the device: --mfa-serial, or a --profile with mfa_serial";
        return Err(CommandError::new(USAGE, text));
    }
    let source = match &options.role_arn {
        Some(role_arn) => {
            let role = role(role_arn, options);
            match base(options) {
                Some(base) => Arc::new(role.base_source(base)),
                None => Arc::new(role),
            }
        }
        None => base(options).unwrap_or_else(|| provider(Provider::default_chain(), options)),
    };
    source.validate().map_err(|problem| CommandError::new(USAGE, problem))?;
    Ok(source)
}

fn provider(provider: Provider, options: &Source) -> Arc<dyn shmcreds::Source> {
    match seconds(options.timeout) {
        Some(timeout) => Arc::new(provider.timeout(timeout)),
        None => Arc::new(provider),
    }
}

pub(crate) fn seconds(number: Option<u64>) -> Option<Duration> {
    number.map(Duration::from_secs)
}

/// The source that is not a role, if the options choose one.
fn base(options: &Source) -> Option<Arc<dyn shmcreds::Source>> {
    if let Some(name) = &options.profile {
        return Some(Arc::new(profile(name, options)));
    }
    let found = if options.default_chain {
        Provider::default_chain()
    } else if options.web_identity {
        Provider::web_identity()
    } else if options.container {
        Provider::container()
    } else if options.imds {
        Provider::imds()
    } else if let Some(start_url) = &options.sso_start_url {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (region, account) = (text(&options.sso_region), text(&options.sso_account_id));
        Provider::sso(start_url, region, account, text(&options.sso_role_name))
    } else if let Some(program) = &options.process {
        let process = CredentialProcess::new([program].into_iter().chain(&options.process_arg));
        return Some(match seconds(options.timeout) {
            Some(timeout) => Arc::new(process.timeout(timeout)),
            None => Arc::new(process),
        });
    } else {
        return options.iot_endpoint.as_ref().map(|endpoint| Arc::new(iot(endpoint, options)) as _);
    };
    Some(provider(found, options))
}

/// The profile that CMD would use if it could see the AWS files.
pub(crate) fn chosen_profile(options: &Source) -> Profile {
    options.profile.as_ref().map_or_else(Profile::selected, Profile::new)
}

/// The profile. It gets the MFA program, unless that belongs to the role of `--role-arn`.
fn profile(name: &str, options: &Source) -> Profile {
    let mut profile = Profile::new(name);
    if let (Some(program), None) = (&options.mfa_command, &options.mfa_serial) {
        profile = profile.mfa_command([program].into_iter().chain(&options.mfa_command_arg));
        if let Some(timeout) = seconds(options.mfa_timeout) {
            profile = profile.mfa_timeout(timeout);
        }
    }
    match seconds(options.timeout) {
        Some(timeout) => profile.timeout(timeout),
        None => profile,
    }
}

fn iot(endpoint: &str, options: &Source) -> IotCore {
    let file =
        |path: &Option<std::path::PathBuf>| Pem::file(path.as_deref().unwrap_or("".as_ref()));
    let alias = options.iot_role_alias.clone().unwrap_or_default();
    let (certificate, key) = (file(&options.iot_certificate), file(&options.iot_private_key));
    let mut iot = IotCore::new(endpoint, alias, certificate, key);
    if let Some(ca) = &options.iot_ca {
        iot = iot.ca(Pem::file(ca));
    }
    if let Some(thing) = &options.iot_thing_name {
        iot = iot.thing_name(thing);
    }
    match seconds(options.timeout) {
        Some(timeout) => iot.timeout(timeout),
        None => iot,
    }
}

/// Passes an option to the builder if it is given.
pub(crate) fn with<T>(
    role: AssumeRole,
    value: Option<T>,
    set: impl FnOnce(AssumeRole, T) -> AssumeRole,
) -> AssumeRole {
    match value {
        Some(value) => set(role, value),
        None => role,
    }
}

fn role(role_arn: &str, options: &Source) -> AssumeRole {
    let mut role = RoleInputs::of(options).recipe(role_arn);
    let serial = options.mfa_serial.as_ref();
    role = with(role, options.mfa_command.as_ref().zip(serial), |role, (program, serial)| {
        role.mfa_command(serial, [program].into_iter().chain(&options.mfa_command_arg))
    });
    with(role, seconds(options.mfa_timeout), AssumeRole::mfa_timeout)
}
