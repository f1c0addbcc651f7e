//! The role of an EC2 instance, from its metadata service.

use aws_config::{
    imds::{self, credentials::ImdsCredentialsProvider},
    provider_config::ProviderConfig,
};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::{
    SourceError, SourceErrorClass, instance_token,
    profile::{Environment, Files, misconfigured},
    refusal_recorder::RefusalRecorder,
    validate,
};

const IPV4: &str = "http://169.254.169.254";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";

pub(super) async fn fetch(client: SharedHttpClient) -> Result<Credentials, SourceError> {
    let environment = Environment::real();
    if environment.flag(DISABLED) == Some(true) {
        return Err(misconfigured(format!("instance metadata is disabled: {DISABLED} is set")));
    }
    let address = address(&environment, &Files::read(&environment))?;
    let place = format!("instance metadata at {address}");
    let recorder = RefusalRecorder::new(instance_token::checked(client));
    let config = ProviderConfig::without_region().with_http_client(recorder.client());
    // With a given address, the SDK reads no variable and no file for it.
    let client = imds::Client::builder().configure(&config).endpoint(&address);
    let client = client.map_err(|error| SourceError::from_error(&place, &*error))?.build();
    let provider =
        ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build();
    let error = match provider.provide_credentials().await {
        Ok(credentials) => return Ok(credentials),
        Err(error) => error,
    };
    Err(match recorder.refusal() {
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

/// The address that the environment or the profile sets. Without one, their IP mode decides.
fn address(environment: &Environment, files: &Files) -> Result<String, SourceError> {
    let name = environment.profile().unwrap_or_else(|| "default".into());
    let of_profile = |key: &str| {
        let setting = files.profile(&name)?.setting(key)?;
        Some((setting.value().to_owned(), format!("{key} at {}", setting.place)))
    };
    let found = |variable: &str, key: &str| {
        let value = environment.get(variable).map(|value| (value, variable.to_owned()));
        value.or_else(|| of_profile(key))
    };
    if let Some((url, origin)) = found(ENDPOINT, "ec2_metadata_service_endpoint") {
        // The SDK panics if the address is not a URL.
        return match validate::endpoint_url(url.trim()) {
            Ok(()) => Ok(url.trim().to_owned()),
            Err(problem) => Err(misconfigured(format!("{problem} ({origin})"))),
        };
    }
    let Some((mode, origin)) = found(MODE, "ec2_metadata_service_endpoint_mode") else {
        return Ok(IPV4.into());
    };
    match mode.trim().to_ascii_lowercase().as_str() {
        "ipv4" => Ok(IPV4.into()),
        "ipv6" => Ok("http://[fd00:ec2::254]".into()),
        _ => Err(misconfigured(format!("{origin} is neither IPv4 nor IPv6"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_address_is_named() {
        let of =
            |key: &str, value: &str| address(&Environment::of([(key, value)]), &Files::default());
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
