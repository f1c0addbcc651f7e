//! The part of the fingerprint that comes from the environment of this process: variables and files.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf, absolute},
};

use super::FingerprintEncoder;

/// A part of the environment that sources read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Part {
    /// The config and credentials files, and the selected profile.
    Profile,
    /// The Region, and the endpoints of services.
    Endpoints,
    /// Keys in variables.
    Keys,
    /// A role by a web identity token.
    WebIdentity,
    /// The endpoint of the container.
    Container,
    /// The metadata service of the instance.
    Metadata,
    /// The tokens of `aws sso login` and `aws login`.
    LoginTokens,
}

impl Part {
    pub(in crate::source) const ALL: &[Part] = &[
        Part::Profile,
        Part::Endpoints,
        Part::Keys,
        Part::WebIdentity,
        Part::Container,
        Part::Metadata,
        Part::LoginTokens,
    ];

    /// The names of variables. A name that ends in `*` means all variables that begin with it.
    fn variables(self) -> &'static [&'static str] {
        match self {
            Part::Profile => &["AWS_PROFILE", "AWS_DEFAULT_PROFILE"],
            Part::Endpoints => &[
                "AWS_REGION",
                "AWS_DEFAULT_REGION",
                "AWS_ENDPOINT_URL*",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
                "AWS_STS_REGIONAL_ENDPOINTS",
                "AWS_USE_DUALSTACK_ENDPOINT",
                "AWS_USE_FIPS_ENDPOINT",
            ],
            Part::Keys => &[
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "AWS_SECURITY_TOKEN",
                "AWS_ACCOUNT_ID",
            ],
            Part::WebIdentity => &["AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"],
            Part::Container => &[
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            ],
            Part::Metadata => &["AWS_EC2_METADATA_*"],
            Part::LoginTokens => &[],
        }
    }

    /// The variables that name a file, and the default file below the home directory.
    fn files(self) -> &'static [(&'static str, Option<&'static str>)] {
        match self {
            Part::Profile => &[
                ("AWS_CONFIG_FILE", Some(".aws/config")),
                ("AWS_SHARED_CREDENTIALS_FILE", Some(".aws/credentials")),
            ],
            Part::WebIdentity => &[("AWS_WEB_IDENTITY_TOKEN_FILE", None)],
            Part::Container => &[("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", None)],
            Part::LoginTokens => &[
                ("AWS_LOGIN_CACHE_DIRECTORY", Some(".aws/login/cache")),
                // No variable changes this one.
                ("", Some(".aws/sso/cache")),
            ],
            Part::Endpoints | Part::Keys | Part::Metadata => &[],
        }
    }

    fn reads(self, variable: &str) -> bool {
        self.variables().iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => variable.starts_with(beginning),
            None => variable == *name,
        })
    }
}

/// Whether a variable decides whose credentials come.
#[cfg(feature = "cli-core")]
pub(crate) fn decides_identity(name: &str) -> bool {
    let is_file = |part: &Part| part.files().iter().any(|(variable, _)| *variable == name);
    Part::ALL.iter().any(|part| part.reads(name) || is_file(part))
}

/// Adds these parts of the environment. An empty variable counts as absent. For a file its path counts, not its
/// content: the content is renewed.
pub(in crate::source) fn encode(parts: &[Part], encoder: FingerprintEncoder) -> FingerprintEncoder {
    let found: BTreeMap<Vec<u8>, Vec<u8>> = env::vars_os()
        .filter(|(name, value)| {
            let name = name.to_str();
            !value.is_empty() && name.is_some_and(|name| parts.iter().any(|part| part.reads(name)))
        })
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect();
    let pairs = found.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let encoder = encoder.pairs("variables", pairs);
    let files = parts.iter().flat_map(|part| part.files());
    files.fold(encoder, |encoder, (variable, default)| {
        let place = named(variable).or_else(|| Some(home()?.join((*default)?)));
        let tag = if variable.is_empty() { default.unwrap_or_default() } else { variable };
        encoder.bytes(tag, place.map(|path| place_of(&path)).as_deref())
    })
}

fn variable(name: &str) -> Option<OsString> {
    // No variable has an empty name.
    let value = if name.is_empty() { None } else { env::var_os(name) };
    value.filter(|value| !value.is_empty())
}

fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}

/// The path in a variable. `~` is the home directory.
fn named(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name)?);
    match path.strip_prefix("~") {
        Ok(rest) => Some(home().map_or_else(|| path.clone(), |home| home.join(rest))),
        Err(_) => Some(path),
    }
}

/// The path of a file, with all links in its directory resolved. If the file itself is a link, it is not resolved:
/// Kubernetes renews a file by pointing such a link to another file.
pub(in crate::source) fn place_of(path: &Path) -> Vec<u8> {
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().skip(1).find_map(|directory| {
        let rest = path.strip_prefix(directory).ok()?;
        Some(directory.canonicalize().ok()?.join(rest))
    });
    real.unwrap_or(path).into_os_string().into_vec()
}

/// The path of the program that `command` starts. A name without `/` is searched in `PATH`.
pub(in crate::source) fn program(command: &str) -> Vec<u8> {
    let found = variable("PATH").filter(|_| !command.contains('/')).and_then(|path| {
        env::split_paths(&path).map(|folder| folder.join(command)).find(|file| file.is_file())
    });
    match found {
        Some(file) => place_of(&file),
        None if command.contains('/') => place_of(Path::new(command)),
        None => command.as_bytes().to_owned(),
    }
}
