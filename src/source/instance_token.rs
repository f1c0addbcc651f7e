//! An HTTP client that checks the tokens of the instance metadata service.
//!
//! The SDK puts the token into a header of its next request, and panics if the token is not UTF-8.

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};

use crate::{http_body, http_layer::layer};

/// The client `inner`, which passes on a token only if it is one.
pub(super) fn checked(inner: SharedHttpClient) -> SharedHttpClient {
    layer(inner, ask)
}

fn ask(connector: &SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
    // The only PUT request is the one for a token.
    let asks_for_token = request.method() == "PUT";
    let answering = connector.call(request);
    match asks_for_token {
        true => HttpConnectorFuture::new(async move { check(answering.await?).await }),
        false => answering,
    }
}

async fn check(mut answer: HttpResponse) -> Result<HttpResponse, ConnectorError> {
    if answer.status().is_success() {
        // The client below ends an answer that is too long with an error.
        let token = http_body::peek(&mut answer, u64::MAX).await?;
        if !token.is_some_and(|token| token.iter().all(u8::is_ascii_graphic)) {
            let text = "the session token of the instance metadata service is no token: it must consist of visible \
                        ASCII characters; is it the service, or a proxy?";
            return Err(ConnectorError::other(text.into(), None));
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    /// Answers everything with these bytes.
    #[derive(Debug)]
    struct Says(&'static [u8]);

    impl HttpConnector for Says {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let status = StatusCode::try_from(200).unwrap();
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.0))))
        }
    }

    fn body(method: &str, said: &'static [u8]) -> Result<Vec<u8>, ConnectorError> {
        let mut request = HttpRequest::empty();
        request.set_method(method).unwrap();
        let asked = ask(&SharedHttpConnector::new(Says(said)), request);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(asked).map(|answer| answer.body().bytes().unwrap().to_vec())
    }

    #[test]
    fn only_a_token_is_passed_on() {
        assert_eq!(body("PUT", b"AQAAAJv-0_x==").unwrap(), b"AQAAAJv-0_x==");
        for said in [&b"a\x95b"[..], "ä".as_bytes(), b"<html> </html>", b"a\r\nb: c"] {
            let error = format!("{:?}", body("PUT", said).unwrap_err());
            assert!(error.contains("visible ASCII characters"), "{error}");
        }
        assert_eq!(body("GET", b"a\x95b").unwrap(), b"a\x95b");
    }
}
