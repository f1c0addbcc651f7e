//! The role of an EC2 instance, by its metadata service.

use aws_config::{imds::credentials::ImdsCredentialsProvider, provider_config::ProviderConfig};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::{
    SourceError,
    overhear::Overhearing,
    profile::{Environment, misconfigured},
};

const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";

pub(super) async fn fetch(client: SharedHttpClient) -> Result<Credentials, SourceError> {
    let environment = Environment::real();
    if environment.flag(DISABLED) == Some(true) {
        return Err(misconfigured(format!("instance metadata is not asked: {DISABLED} is set")));
    }
    let place = format!("instance metadata at {}", address(&environment)?);
    let overhearing = Overhearing::new(client);
    let config = ProviderConfig::without_region().with_http_client(overhearing.clone());
    let provider = ImdsCredentialsProvider::builder().configure(&config).build();
    let error = match provider.provide_credentials().await {
        Ok(credentials) => return Ok(credentials),
        Err(error) => error,
    };
    Err(match overhearing.refusal() {
        Some(refusal) if refusal.status == 404 => misconfigured(format!(
            "{place} has no credentials (HTTP status 404); attach a role to the instance"
        )),
        Some(refusal) => SourceError::from_status(&place, refusal.status, &refusal.body),
        None => SourceError::from_error(&place, &error),
    })
}

/// The SDK panics at an address that is none.
fn address(environment: &Environment) -> Result<String, SourceError> {
    if let Some(url) = environment.get(ENDPOINT) {
        return match super::validate::endpoint_url(url.trim()) {
            Ok(()) => Ok(url),
            Err(problem) => Err(misconfigured(format!("{problem} ({ENDPOINT})"))),
        };
    }
    match environment.get(MODE).map(|mode| mode.trim().to_ascii_lowercase()).as_deref() {
        None | Some("ipv4") => Ok("http://169.254.169.254".into()),
        Some("ipv6") => Ok("http://[fd00:ec2::254]".into()),
        Some(_) => Err(misconfigured(format!("{MODE} is neither IPv4 nor IPv6"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceErrorClass;

    #[test]
    fn an_address_that_is_none_is_named() {
        let of = |key: &str, value: &str| address(&Environment::of([(key, value)]));
        assert_eq!(of(ENDPOINT, "http://127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert_eq!(of(ENDPOINT, "").unwrap(), "http://169.254.169.254");
        assert_eq!(of(MODE, "IPv6").unwrap(), "http://[fd00:ec2::254]");
        for (key, value) in
            [(ENDPOINT, "169.254.169.254"), (MODE, "dual"), (ENDPOINT, "http://a b")]
        {
            let failure = of(key, value).unwrap_err();
            assert_eq!(failure.class(), SourceErrorClass::Misconfigured);
            assert!(failure.message().contains(key), "{failure}");
        }
    }
}
