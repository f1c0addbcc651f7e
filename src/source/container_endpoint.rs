//! The credentials endpoint of a container, on ECS, with EKS Pod Identity, or of another agent.

use std::path::Path;

use aws_config::{ecs::EcsCredentialsProvider, provider_config::ProviderConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    SourceError, SourceErrorClass,
    profile::{Environment, misconfigured},
    refusal_recorder::{Refusal, RefusalRecorder},
    user_file::{self, BYTE_ORDER_MARK},
};

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

pub(super) async fn fetch(client: SharedHttpClient) -> Result<Credentials, SourceError> {
    let environment = Environment::real();
    let place = match (environment.get(RELATIVE), environment.get(FULL)) {
        (Some(path), _) if path.starts_with('/') => format!("http://169.254.170.2{path}"),
        (Some(_), _) => return Err(misconfigured(format!("{RELATIVE} does not begin with /"))),
        (None, Some(url)) => url,
        (None, None) => {
            return Err(misconfigured(format!(
                "the container endpoint has no address: neither {FULL} nor {RELATIVE} is set"
            )));
        }
    };
    check_token(&environment)?;
    let recorder = RefusalRecorder::new(client);
    let config = ProviderConfig::without_region().with_http_client(recorder.client());
    let provider = EcsCredentialsProvider::builder().configure(&config).build();
    let error = match provider.provide_credentials().await {
        Ok(credentials) => return Ok(credentials),
        Err(error) => error,
    };
    let place = format!("the container endpoint {}", without_query(&place));
    Err(match recorder.refusal() {
        Some(refusal) => refusal.complete(refused(&place, &refusal)),
        None if matches!(error, CredentialsError::InvalidConfiguration(_)) => {
            SourceError::from_error("the container endpoint", &error)
        }
        None => SourceError::from_error(&place, &error),
    })
}

/// A query may hold a secret.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// The explanation of the agent, if it is JSON.
#[derive(Deserialize)]
struct Explained {
    #[serde(alias = "Code")]
    code: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

fn refused(place: &str, refusal: &Refusal) -> SourceError {
    let class = SourceErrorClass::of_status(refusal.status);
    match serde_json::from_slice(&refusal.body) {
        Ok(Explained { code, message: Some(message) }) => {
            let text = format!("{place} answered with HTTP status {}: {message}", refusal.status);
            let failure = SourceError::new(class, text).with_http_status(refusal.status);
            code.map_or(failure.clone(), |code| failure.with_code(code))
        }
        _ => SourceError::from_status(place, refusal.status, &refusal.body),
    }
}

/// The SDK's errors do not name the file. A line break after the token is a common mistake.
fn check_token(environment: &Environment) -> Result<(), SourceError> {
    let (token, name) = match environment.path(TOKEN_FILE) {
        Some(path) => (read(&path)?, format!("the token file {path:?} ({TOKEN_FILE})")),
        None => match environment.get(TOKEN) {
            Some(token) => (Zeroizing::new(token.into_bytes()), TOKEN.to_owned()),
            None => return Ok(()),
        },
    };
    let problem = if token.is_empty() {
        "is empty"
    } else if token.starts_with(BYTE_ORDER_MARK) {
        "begins with a byte order mark, must be the token alone"
    } else if token.ends_with(b"\n") || token.ends_with(b"\r") {
        "ends with a line break, must be the token alone"
    } else if token.iter().any(|byte| byte.is_ascii_control()) {
        "contains a control character, must be the token alone"
    } else {
        return Ok(());
    };
    Err(misconfigured(format!("{name} {problem}")))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    user_file::bytes(path).map_err(|error| {
        misconfigured(format!(
            "the token file {path:?} ({TOKEN_FILE}) cannot be read: {}",
            crate::errno::told(&error)
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_of_no_use_is_named_by_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = path.to_str().unwrap();
        let check = || check_token(&Environment::of([(TOKEN_FILE, file)]));
        assert!(check().unwrap_err().message().contains("token\" (AWS_CONTAINER"));
        for (text, problem) in [
            ("", "is empty"),
            ("hush\n", "line break"),
            ("hu\nsh", "control"),
            ("\u{feff}hush", "byte order"),
        ] {
            fs::write(&path, text).unwrap();
            let failure = check().unwrap_err();
            assert_eq!(failure.class(), SourceErrorClass::Misconfigured);
            let message = failure.message();
            assert!(message.contains(file) && message.contains(problem), "{message}");
            assert!(!message.contains("hush"), "{message}");
        }
        fs::write(&path, "token").unwrap();
        check().unwrap();
        let variable = check_token(&Environment::of([(TOKEN, "hush\nhush")])).unwrap_err();
        assert!(variable.message().starts_with(TOKEN), "{variable}");
    }

    #[test]
    fn the_explanation_of_the_agent_is_shown_in_each_format() {
        for (body, said, code) in [
            ("Service account token cannot be empty", "\"Service account token", None),
            (r#"{"code":"Denied","message":"no role"}"#, "status 403: no role", Some("Denied")),
            (r#"{"Code":"Denied","Message":"no role"}"#, "status 403: no role", Some("Denied")),
            (r#"{"other":1}"#, "other", None),
            ("", "nothing else", None),
        ] {
            let refusal = Refusal { status: 403, body: body.into(), retry_after: None };
            let failure = refused("the container endpoint http://x", &refusal);
            assert_eq!((failure.class(), failure.code()), (SourceErrorClass::Terminal, code));
            assert!(failure.message().contains(said), "{failure}");
        }
    }
}
