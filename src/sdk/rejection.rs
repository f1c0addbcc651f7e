//! AWS rejects a set: an HTTP client that hears of it.
//!
//! A configuration for all services has no room for an interceptor, but one for the HTTP client. This
//! one is the SDK's own with an ear on the answers: where AWS says that the session token is no good,
//! the access key that signed the request is invalidated. If there is, or will be, another one, the
//! SDK is shown status 503 instead of 4xx, so that its own retry asks for the credentials again; the
//! body with AWS's error stays as it is.

use std::{fmt, sync::Arc};

use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connector_metadata::ConnectorMetadata,
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream, config_bag::ConfigBag};

use crate::session::Inner;

/// What AWS calls a session token that is no good any more.
const REJECTIONS: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "InvalidToken"];
/// An error that AWS answers with has a few hundred bytes; more is somebody else's.
const LONGEST_ERROR: u64 = 64 * 1024;
const RETRY: u16 = 503;

/// The client to use in place of `client`, or of the SDK's default one.
pub(super) fn listening(inner: &Arc<Inner>, client: Option<SharedHttpClient>) -> SharedHttpClient {
    let client = client.unwrap_or_else(default_client);
    SharedHttpClient::new(Listening { client, inner: Arc::clone(inner) })
}

/// As the SDK makes it where nothing is configured.
fn default_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector =
            ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    })
}

#[derive(Debug)]
struct Listening {
    client: SharedHttpClient,
    inner: Arc<Inner>,
}

impl HttpClient for Listening {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = self.client.http_connector(settings, components);
        SharedHttpConnector::new(Connector { connector, inner: Arc::clone(&self.inner) })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.client.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.client.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.client.connector_metadata()
    }
}

struct Connector {
    connector: SharedHttpConnector,
    inner: Arc<Inner>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.connector).finish()
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let key = request.headers().get("authorization").and_then(signing_key).map(str::to_owned);
        let answering = self.connector.call(request);
        let Some(key) = key else { return answering };
        let inner = Arc::clone(&self.inner);
        HttpConnectorFuture::new(async move { hear(&inner, &key, answering.await?).await })
    }
}

/// The access key in `AWS4-HMAC-SHA256 Credential=KEY/date/…`.
fn signing_key(authorization: &str) -> Option<&str> {
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split_once('/').map(|(key, _)| key)
}

/// The answer, as the SDK is to see it.
async fn hear(
    inner: &Arc<Inner>,
    key: &str,
    mut answer: HttpResponse,
) -> Result<HttpResponse, ConnectorError> {
    if !answer.status().is_client_error() || !is_short(&answer) {
        return Ok(answer);
    }
    let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
    let body = ByteStream::new(body).collect().await;
    let body = body.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    let rejected = is_rejection(answer.headers().get("x-amzn-errortype"), &body);
    *answer.body_mut() = SdkBody::from(body);
    if rejected && inner.replace_rejected(key) {
        let retry =
            StatusCode::try_from(RETRY).map_err(|e| ConnectorError::other(e.into(), None))?;
        *answer.status_mut() = retry;
    }
    Ok(answer)
}

fn is_short(answer: &HttpResponse) -> bool {
    let length = answer.headers().get("content-length").and_then(|length| length.parse().ok());
    length.or(answer.body().content_length()).is_none_or(|length: u64| length <= LONGEST_ERROR)
}

/// Whether an error's code, in its header, in XML or in JSON, is one of [`REJECTIONS`].
fn is_rejection(header: Option<&str>, body: &[u8]) -> bool {
    let named = |code: &str| REJECTIONS.contains(&code);
    // `ExpiredTokenException:http://…`
    if header.is_some_and(|header| header.split(':').next().is_some_and(named)) {
        return true;
    }
    let body = String::from_utf8_lossy(body);
    let xml = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    if let Some((code, _)) = xml {
        return named(code.trim());
    }
    // `"__type": "com.amazon.coral.service#ExpiredTokenException"`, or `"code": "…"`.
    let json = ["\"__type\"", "\"code\"", "\"Code\""].iter().find_map(|name| {
        let (_, rest) = body.split_once(name)?;
        let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        value.split_once('"').map(|(value, _)| value)
    });
    json.is_some_and(|value| value.rsplit('#').next().is_some_and(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_are_recognised_in_every_protocol() {
        let xml =
            "<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>x</Message></Error>";
        for (header, body, expected) in [
            (None, xml, true),
            (
                None,
                "<Error><Code>AccessDenied</Code><Message>ExpiredToken</Message></Error>",
                false,
            ),
            (None, "{\"__type\":\"com.amazon.coral.service#ExpiredTokenException\"}", true),
            (None, "{ \"code\" : \"InvalidToken\" }", true),
            (None, "{\"message\":\"ExpiredToken\"}", false),
            (Some("ExpiredTokenException:http://internal"), "{}", true),
            (Some("AccessDeniedException"), "{}", false),
            (None, "", false),
        ] {
            assert_eq!(is_rejection(header, body.as_bytes()), expected, "{header:?} {body}");
        }
    }

    #[test]
    fn the_signing_key_is_found() {
        let header = "AWS4-HMAC-SHA256 Credential=ASIA1/20260101/us-east-1/s3/aws4_request, Sig";
        assert_eq!(signing_key(header), Some("ASIA1"));
        assert_eq!(signing_key("Bearer x"), None);
    }
}
