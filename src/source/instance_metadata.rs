//! The metadata service of an EC2 instance: its role and its Region.

use aws_config::{
    imds::{self, credentials::ImdsCredentialsProvider},
    provider_config::ProviderConfig,
};
use aws_credential_types::{Credentials, provider::ProvideCredentials};

use super::{
    SourceError, SourceErrorClass, http, instance_role,
    instance_token::{NoToken, Tokens},
    profile::{Environment, Files},
    refusal_recorder::RefusalRecorder,
    validate,
};

const IPV4: &str = "http://169.254.169.254";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
const VERSION_1_DISABLED: &str = "AWS_EC2_METADATA_V1_DISABLED";

/// Where a container cannot get a token, this is why.
const HOP_LIMIT: &str = "in a container, the hop limit of the instance's metadata service \
                         (HttpPutResponseHopLimit) must be 2";

/// How to ask the service: what the environment and a profile set.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    address: String,
    /// What disables version 1 of the service. Without it, version 1 is used where the service gives no token.
    version_1_disabled: Option<String>,
}

/// The role of the instance.
pub(super) async fn fetch(
    environment: &Environment,
    files: &Files,
    profile: &str,
) -> Result<Credentials, SourceError> {
    if is_disabled(environment) {
        return Err(misconfigured(format!("instance metadata is disabled: {DISABLED} is set")));
    }
    Metadata::resolve(environment, files, profile).map_err(misconfigured)?.credentials().await
}

/// The Region of the instance. On other hosts there is none.
///
/// # Errors
/// A value that breaks its rule, with its variable, or its file and line.
pub(super) async fn region(
    environment: &Environment,
    files: &Files,
    profile: &str,
) -> Result<Option<String>, String> {
    if is_disabled(environment) {
        return Ok(None);
    }
    let metadata = Metadata::resolve(environment, files, profile)?;
    let client = metadata.tokens().client(http::client());
    let config = ProviderConfig::without_region().with_http_client(client);
    let Ok(client) = metadata.client(&config) else { return Ok(None) };
    let region = client.get("/latest/meta-data/placement/region").await;
    let region = region.ok().map(|region| region.as_ref().trim().to_owned());
    // The login page of a network may answer.
    Ok(region.filter(|region| validate::region(region).is_ok()))
}

/// How the service would be asked, for people.
///
/// # Errors
/// A value that breaks its rule.
#[cfg(feature = "cli-core")]
pub(crate) fn told(profile: &str) -> Result<String, String> {
    let environment = Environment::real();
    if is_disabled(&environment) {
        return Ok(format!("not asked: {DISABLED} is set"));
    }
    let metadata = Metadata::resolve(&environment, &Files::read(&environment), profile)?;
    Ok(match metadata.version_1_disabled {
        None => {
            format!("{}; version 1 is used where it gives no session token", metadata.address)
        }
        Some(origin) => format!("{}; {origin} disables version 1", metadata.address),
    })
}

fn is_disabled(environment: &Environment) -> bool {
    environment.flag(DISABLED) == Some(true)
}

impl Metadata {
    pub(super) fn resolve(
        environment: &Environment,
        files: &Files,
        profile: &str,
    ) -> Result<Self, String> {
        let found = |variable: &str, key: &str| {
            let value = environment.get(variable).map(|value| (value, variable.to_owned()));
            value.or_else(|| {
                let setting = files.profile(profile)?.setting(key)?;
                Some((setting.value().to_owned(), format!("{key} at {}", setting.place)))
            })
        };
        let endpoint = found(ENDPOINT, "ec2_metadata_service_endpoint");
        let mode = found(MODE, "ec2_metadata_service_endpoint_mode");
        let version_1 = found(VERSION_1_DISABLED, "ec2_metadata_v1_disabled");
        let disables = |(value, _): &(String, String)| value.trim().eq_ignore_ascii_case("true");
        Ok(Metadata {
            address: address(endpoint, mode)?,
            version_1_disabled: version_1.filter(disables).map(|(_, origin)| origin),
        })
    }

    fn tokens(&self) -> Tokens {
        Tokens::new(self.version_1_disabled.is_none())
    }

    fn client(&self, config: &ProviderConfig) -> Result<imds::Client, SourceError> {
        // With a given address, the SDK reads no variable and no file for it.
        let client = imds::Client::builder().configure(config).endpoint(&self.address);
        let client = client.map_err(|error| SourceError::from_error(&self.place(), &*error))?;
        Ok(client.build())
    }

    fn place(&self) -> String {
        format!("instance metadata at {}", self.address)
    }

    async fn credentials(&self) -> Result<Credentials, SourceError> {
        let tokens = self.tokens();
        let recorder = RefusalRecorder::new(tokens.client(instance_role::checked(http::client())));
        let config = ProviderConfig::without_region().with_http_client(recorder.client());
        let client = self.client(&config)?;
        let provider =
            ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build();
        let error = match provider.provide_credentials().await {
            Ok(credentials) => return Ok(credentials),
            Err(error) => error,
        };
        let place = self.place();
        let refusal = recorder.refusal();
        let status = refusal.as_ref().map(|refusal| refusal.status);
        if let Some(missing) = tokens.missing()
            && (self.version_1_disabled.is_some() || status == Some(401))
        {
            return Err(self.without_token(missing));
        }
        Err(match refusal {
            Some(refusal) if refusal.status == 404 => misconfigured(format!(
                "{place} has no credentials (HTTP status 404); attach a role to the instance"
            )),
            Some(refusal) => {
                refusal.complete(SourceError::from_status(&place, refusal.status, &refusal.body))
            }
            // The SDK calls it a source that is not enabled, but this one was named: the service may be up soon.
            None => SourceError::from_error(&place, &error).of_class(SourceErrorClass::Transient),
        })
    }

    /// The service gives no token, and nothing without one.
    fn without_token(&self, missing: NoToken) -> SourceError {
        let place = self.place();
        let mut text = match &self.version_1_disabled {
            Some(origin) => format!(
                "{place} gave no session token ({missing}), and {origin} disables version 1, which needs none"
            ),
            None => format!(
                "{place} gave no session token ({missing}), and answers nothing without one (HTTP status 401)"
            ),
        };
        if missing != NoToken::Silence {
            return misconfigured(text);
        }
        // The service may be busy.
        text = format!("{text}; {HOP_LIMIT}");
        SourceError::of_known_text(SourceErrorClass::Transient, text)
    }
}

/// The address that is set. Without one, the IP mode decides.
fn address(
    endpoint: Option<(String, String)>,
    mode: Option<(String, String)>,
) -> Result<String, String> {
    if let Some((url, origin)) = endpoint {
        // The SDK panics if the address is not a URL.
        return match validate::endpoint_url(url.trim()) {
            Ok(()) => Ok(url.trim().to_owned()),
            Err(problem) => Err(format!("{problem} ({origin})")),
        };
    }
    let Some((mode, origin)) = mode else { return Ok(IPV4.into()) };
    match mode.trim().to_ascii_lowercase().as_str() {
        "ipv4" => Ok(IPV4.into()),
        "ipv6" => Ok("http://[fd00:ec2::254]".into()),
        _ => Err(format!("{origin} is neither IPv4 nor IPv6")),
    }
}

/// The text may contain names and paths.
fn misconfigured(text: impl AsRef<str>) -> SourceError {
    SourceError::of_known_text(SourceErrorClass::Misconfigured, text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn resolved(variables: &[(&str, &str)], config: &str) -> Result<Metadata, String> {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        fs::create_dir(folder.path().join(".aws")).unwrap();
        fs::write(folder.path().join(".aws/config"), config).unwrap();
        let variables = variables.iter().copied().chain([("HOME", home)]);
        let environment = Environment::of(variables);
        Metadata::resolve(&environment, &Files::read(&environment), "app")
    }

    #[test]
    fn an_invalid_address_is_named() {
        let of = |key: &str, value: &str| resolved(&[(key, value)], "").map(|found| found.address);
        assert_eq!(of(ENDPOINT, "http://127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert_eq!(of(ENDPOINT, "").unwrap(), "http://169.254.169.254");
        assert_eq!(of(MODE, "IPv6").unwrap(), "http://[fd00:ec2::254]");
        for (key, value) in
            [(ENDPOINT, "169.254.169.254"), (MODE, "dual"), (ENDPOINT, "http://a b")]
        {
            let problem = of(key, value).unwrap_err();
            assert!(problem.contains(key), "{problem}");
        }
    }

    #[test]
    fn the_environment_or_else_the_profile_disables_version_1() {
        let disabled = |variable: &str, config: &str| {
            let found = resolved(&[(VERSION_1_DISABLED, variable)], config).unwrap();
            found.version_1_disabled.unwrap_or_default()
        };
        let says = |value: &str| format!("[profile app]\nec2_metadata_v1_disabled = {value}\n");
        for (variable, config, by) in [
            ("", String::new(), ""),
            ("false", String::new(), ""),
            ("true", String::new(), VERSION_1_DISABLED),
            (" TRUE ", String::new(), VERSION_1_DISABLED),
            ("", says("false"), ""),
            ("true", says("false"), VERSION_1_DISABLED),
            ("false", says("true"), ""),
            ("", "[default]\nec2_metadata_v1_disabled = true\n".to_owned(), ""),
        ] {
            assert_eq!(disabled(variable, &config), by, "{variable:?} {config:?}");
        }
        let by_profile = disabled("", &says("True"));
        assert!(by_profile.starts_with("ec2_metadata_v1_disabled at "), "{by_profile}");
        assert!(by_profile.ends_with(".aws/config line 2"), "{by_profile}");
    }
}
