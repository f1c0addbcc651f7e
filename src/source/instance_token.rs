//! An HTTP client that checks the tokens of the instance metadata service.
//!
//! The SDK puts the token into a header of its next request, and panics if the token is not UTF-8.

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};

use crate::http_body;

#[derive(Clone, Debug)]
pub(super) struct TokenCheck(pub(super) SharedHttpClient);

impl HttpClient for TokenCheck {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector(self.0.http_connector(settings, components)))
    }
}

#[derive(Debug)]
struct Connector(SharedHttpConnector);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // The only PUT request is the one for a token.
        let asks_for_token = request.method() == "PUT";
        let answering = self.0.call(request);
        if !asks_for_token {
            return answering;
        }
        HttpConnectorFuture::new(async move {
            let mut answer = answering.await?;
            if answer.status().is_success() {
                // The client below ends an answer that is too long with an error.
                let token = http_body::peek(&mut answer, u64::MAX).await?;
                if !token.is_some_and(|token| token.iter().all(u8::is_ascii_graphic)) {
                    let text = "the session token of the instance metadata service is no token: it must consist of \
                                visible ASCII characters; is it the service, or a proxy?";
                    return Err(ConnectorError::other(text.into(), None));
                }
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::{client::orchestrator::HttpResponse, http::StatusCode};
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
        let asked = Connector(SharedHttpConnector::new(Says(said))).call(request);
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
