//! An HTTP client that notices when AWS rejects a set.
//!
//! An SDK configuration for all services cannot hold an interceptor, but it can hold an HTTP client. This client
//! wraps the SDK's own one and looks at each answer. If AWS rejects the session token, it invalidates the access
//! key that signed the request. If another set exists or will come, it changes the status from 4xx to 503. Then
//! the SDK retries, and asks for the credentials again. The body with AWS's error stays as it is.

use std::sync::Arc;

use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient},
        orchestrator::HttpResponse,
        result::ConnectorError,
    },
    http::StatusCode,
};

use crate::{http_body, http_layer::layer, session::Inner};

/// The error codes by which AWS rejects a session token.
const REJECTIONS: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "InvalidToken"];
/// An error of AWS has a few hundred bytes. A longer body comes from another server.
const LONGEST_ERROR: u64 = 64 * 1024;
const RETRY: u16 = 503;

/// The client to use in place of `client`, or of the SDK's default one.
pub(super) fn listening(inner: &Arc<Inner>, client: Option<SharedHttpClient>) -> SharedHttpClient {
    let client = client.unwrap_or_else(default_client);
    let inner = Arc::clone(inner);
    layer(client, move |connector, request| {
        let key = request.headers().get("authorization").and_then(signing_key).map(str::to_owned);
        let answering = connector.call(request);
        let Some(key) = key else { return answering };
        let inner = Arc::clone(&inner);
        HttpConnectorFuture::new(async move { inspect(&inner, &key, answering.await?).await })
    })
}

/// The client that the SDK makes if none is configured.
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

/// The access key in `AWS4-HMAC-SHA256 Credential=KEY/date/…`.
fn signing_key(authorization: &str) -> Option<&str> {
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split_once('/').map(|(key, _)| key)
}

/// The answer that the SDK sees.
async fn inspect(
    inner: &Arc<Inner>,
    key: &str,
    mut answer: HttpResponse,
) -> Result<HttpResponse, ConnectorError> {
    if !answer.status().is_client_error() {
        return Ok(answer);
    }
    let Some(body) = http_body::peek(&mut answer, LONGEST_ERROR).await? else { return Ok(answer) };
    let rejected = is_rejection(answer.headers().get("x-amzn-errortype"), &body);
    if rejected && inner.replace_rejected(key) {
        let retry =
            StatusCode::try_from(RETRY).map_err(|e| ConnectorError::other(e.into(), None))?;
        *answer.status_mut() = retry;
    }
    Ok(answer)
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
