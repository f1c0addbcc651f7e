//! An HTTP client that checks the name of the role that the instance metadata service gives.
//!
//! The SDK puts the name into the address of its next request, and panics if that is no address.

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector},
    orchestrator::HttpRequest,
    result::ConnectorError,
};
use hyper::Uri;

use crate::{http_body, http_layer::layer};

/// The request for this path is answered with the name. The request for the credentials has the name at its end.
const ROLE: &str = "/latest/meta-data/iam/security-credentials/";

/// The client `inner`, which gives no name that cannot be a part of an address.
pub(super) fn checked(inner: SharedHttpClient) -> SharedHttpClient {
    layer(inner, ask)
}

fn ask(connector: &SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
    let asks_for_the_name = request.uri().ends_with(ROLE);
    let answering = connector.call(request);
    if !asks_for_the_name {
        return answering;
    }
    HttpConnectorFuture::new(async move {
        let mut answer = answering.await?;
        if answer.status().is_success() {
            // The client below ends an answer that is too long with an error.
            let name = http_body::peek(&mut answer, u64::MAX).await?.unwrap_or_default();
            if Uri::try_from([ROLE.as_bytes(), &name].concat()).is_err() {
                let text = "what the instance metadata service gives as the name of the instance's role is no name; \
                            is it the service, or a proxy?";
                return Err(ConnectorError::other(text.into(), None));
            }
        }
        Ok(answer)
    })
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    /// Answers each request with this status and these bytes.
    #[derive(Debug)]
    struct Says(u16, &'static [u8]);

    impl HttpConnector for Says {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let status = self.0.try_into().unwrap();
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.1))))
        }
    }

    /// What the SDK gets for a request for `path`.
    fn got(path: &str, says: Says) -> Result<Vec<u8>, ConnectorError> {
        let mut request = HttpRequest::empty();
        request.set_uri(format!("http://169.254.169.254{path}")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(ask(&SharedHttpConnector::new(says), request));
        answer.map(|answer| answer.body().bytes().unwrap().to_vec())
    }

    #[test]
    fn only_a_name_is_passed_on() {
        for name in [&b"app"[..], b"my_role+1=2,3.4@5-6", b"path/app", b"a%20b"] {
            assert_eq!(got(ROLE, Says(200, name)).unwrap(), name);
        }
        const LONGEST: &[u8] = &[b'a'; 70_000];
        for name in
            [&b"app\n"[..], b"my role", b"<html>\r\n</html>", b"a\xb7\x8c\nb", b"\0", LONGEST]
        {
            let error = format!("{:?}", got(ROLE, Says(200, name)).unwrap_err());
            assert!(error.contains("is no name"), "{error}");
        }
    }

    #[test]
    fn other_answers_are_passed_on() {
        assert_eq!(got(ROLE, Says(404, b"not found\n")).unwrap(), b"not found\n");
        let credentials = format!("{ROLE}app");
        assert_eq!(got(&credentials, Says(200, b"{\n}")).unwrap(), b"{\n}");
    }
}
