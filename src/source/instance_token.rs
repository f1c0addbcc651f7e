//! An HTTP client that gets the token of the instance metadata service, or does without.
//!
//! Version 2 of the service gives a token for a PUT request, and expects it in a header of each GET request. The SDK
//! knows version 2 only. Some proxies of the service know version 1 only. The AWS CLI asks them without a token, and so
//! does this client: it answers the PUT request with a placeholder, and removes the header from the GET requests.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use hyper::StatusCode;
use hyper_util::client::legacy;

use super::causes::chain;
use crate::{http_body, http_layer::layer};

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// How long a token is valid that says nothing else: longer than the fetch for which it is.
const USUAL_TTL: &str = "21600";

/// Answers to the PUT request of a server that knows version 1 only. 400 says that the request is wrong, 401 that a
/// token is required, and 429 and 5xx that the service is busy: these are no reason to go on without a token.
const UNKNOWN_REQUEST: [u16; 4] = [403, 404, 405, 501];

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoToken {
    Refused(u16),
    /// The answer was empty.
    Empty,
    /// The request arrived, and no answer came. In a container, answers with a token may not get through.
    Silence,
}

impl NoToken {
    fn of(status: u16) -> Option<Self> {
        UNKNOWN_REQUEST.contains(&status).then_some(NoToken::Refused(status))
    }

    /// Without a connection the other requests are in vain, too: nothing is known about tokens.
    fn by_silence(error: &ConnectorError) -> Option<Self> {
        let is_connect = |error: &legacy::Error| error.is_connect();
        let unconnected = chain(error).filter_map(|error| error.downcast_ref()).any(is_connect);
        let is_end = |error: &hyper::Error| error.is_incomplete_message();
        let closed = chain(error).filter_map(|error| error.downcast_ref()).any(is_end);
        let silent = error.is_timeout() || error.is_io() || closed;
        (silent && !unconnected).then_some(NoToken::Silence)
    }
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoToken::Refused(status) => write!(f, "HTTP status {status}"),
            NoToken::Empty => f.write_str("an empty answer"),
            NoToken::Silence => f.write_str("no answer"),
        }
    }
}

/// The tokens of one client.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    /// Whether the client may ask without a token.
    version_1: bool,
    missing: Arc<Mutex<Option<NoToken>>>,
}

impl Tokens {
    pub(super) fn new(version_1: bool) -> Self {
        Tokens { version_1, missing: Arc::default() }
    }

    /// The client `inner` with these tokens.
    pub(super) fn client(&self, inner: SharedHttpClient) -> SharedHttpClient {
        let tokens = self.clone();
        layer(inner, move |connector, request| tokens.ask(connector, request))
    }

    /// Why the service gave no token, if it gave none.
    pub(super) fn missing(&self) -> Option<NoToken> {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(
        &self,
        connector: &SharedHttpConnector,
        mut request: HttpRequest,
    ) -> HttpConnectorFuture {
        // The only PUT request is the one for a token.
        if request.method() != "PUT" {
            if self.version_1 && self.missing().is_some() {
                request.headers_mut().remove(TOKEN);
            }
            return connector.call(request);
        }
        let (answering, tokens) = (connector.call(request), self.clone());
        HttpConnectorFuture::new(async move {
            let (answer, absence) = token(answering.await).await;
            *tokens.missing.lock().unwrap_or_else(PoisonError::into_inner) = absence;
            match absence {
                Some(_) if tokens.version_1 => Ok(placeholder()),
                _ => answer,
            }
        })
    }
}

type Answer = Result<HttpResponse, ConnectorError>;

/// The answer to the PUT request, and whether it says that there is no token.
async fn token(answer: Answer) -> (Answer, Option<NoToken>) {
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let silence = NoToken::by_silence(&error);
            return (Err(error), silence);
        }
    };
    if !answer.status().is_success() {
        let absence = NoToken::of(answer.status().as_u16());
        // With this header the SDK takes the body of a refusal for a token.
        answer.headers_mut().remove(TTL);
        return (Ok(answer), absence);
    }
    // The client below ends an answer that is too long with an error.
    let token = match http_body::peek(&mut answer, u64::MAX).await {
        Ok(token) => token.unwrap_or_default(),
        Err(error) => return (Err(error), None),
    };
    // The SDK puts the token into a header of its next request, and panics if the token is not UTF-8.
    if !token.iter().all(u8::is_ascii_graphic) {
        let text = "the session token of the instance metadata service is no token: it must consist of visible \
                    ASCII characters; is it the service, or a proxy?";
        return (Err(ConnectorError::other(text.into(), None)), None);
    }
    let absence = token.is_empty().then_some(NoToken::Empty);
    if answer.headers().get(TTL).is_none() {
        answer.headers_mut().insert(TTL, USUAL_TTL);
    }
    (Ok(answer), absence)
}

/// What the SDK takes for a token.
fn placeholder() -> HttpResponse {
    let mut answer = HttpResponse::new(StatusCode::OK.into(), SdkBody::from("none"));
    answer.headers_mut().insert(TTL, USUAL_TTL);
    answer
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpListener},
        thread,
    };

    use aws_config::{imds, provider_config::ProviderConfig};

    use super::*;
    use crate::source::http;

    /// Answers PUT requests with this status and these bytes. Other requests are answered with the token that they
    /// have.
    #[derive(Debug)]
    struct Says(u16, &'static [u8]);

    impl HttpConnector for Says {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let answer = |status: u16, body: SdkBody| {
                let mut answer = HttpResponse::new(status.try_into().unwrap(), body);
                if status != 200 {
                    answer.headers_mut().insert(TTL, "600");
                }
                Ok(answer)
            };
            let sent = request.headers().get(TOKEN).unwrap_or("no token").to_owned();
            HttpConnectorFuture::ready(match request.method() {
                "PUT" if self.0 == 0 => {
                    Err(ConnectorError::timeout("HTTP read timeout occurred after 1s".into()))
                }
                "PUT" => answer(self.0, SdkBody::from(self.1)),
                _ => answer(200, SdkBody::from(sent)),
            })
        }
    }

    struct Asked {
        connector: SharedHttpConnector,
        tokens: Tokens,
    }

    fn asked(says: Says, version_1: bool) -> Asked {
        Asked { connector: SharedHttpConnector::new(says), tokens: Tokens::new(version_1) }
    }

    fn ask(asked: &Asked, method: &str) -> Answer {
        let mut request = HttpRequest::empty();
        request.set_method(method).unwrap();
        request.headers_mut().insert(TOKEN, "token");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(asked.tokens.ask(&asked.connector, request))
    }

    fn body(answer: Answer) -> Result<Vec<u8>, ConnectorError> {
        answer.map(|answer| answer.body().bytes().unwrap().to_vec())
    }

    #[test]
    fn only_a_token_is_passed_on() {
        let put = |said| body(ask(&asked(Says(200, said), true), "PUT"));
        assert_eq!(put(b"AQAAAJv-0_x==").unwrap(), b"AQAAAJv-0_x==");
        for said in [&b"a\x95b"[..], "ä".as_bytes(), b"<html> </html>", b"a\r\nb: c"] {
            let error = format!("{:?}", put(said).unwrap_err());
            assert!(error.contains("visible ASCII characters"), "{error}");
        }
    }

    #[test]
    fn without_a_token_the_other_requests_have_none() {
        for (status, said) in
            [(403, "no"), (404, ""), (405, ""), (501, "<html>"), (0, ""), (200, "")]
        {
            let asked = asked(Says(status, said.as_bytes()), true);
            let answer = ask(&asked, "PUT").unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{status}");
            assert_eq!(answer.headers().get(TTL), Some(USUAL_TTL));
            assert_eq!(body(ask(&asked, "GET")).unwrap(), b"no token", "{status}");
        }
    }

    #[test]
    fn another_refusal_or_a_setting_keeps_version_2() {
        for status in [400, 401, 429, 500, 502, 503] {
            let asked = asked(Says(status, b""), true);
            assert_eq!(ask(&asked, "PUT").unwrap().status().as_u16(), status);
            assert_eq!(asked.tokens.missing(), None);
            assert_eq!(body(ask(&asked, "GET")).unwrap(), b"token", "{status}");
        }
        for status in [403, 404, 405, 501] {
            let asked = asked(Says(status, b""), false);
            assert_eq!(ask(&asked, "PUT").unwrap().status().as_u16(), status);
            assert_eq!(asked.tokens.missing(), Some(NoToken::Refused(status)));
            assert_eq!(body(ask(&asked, "GET")).unwrap(), b"token", "{status}");
        }
        let asked = asked(Says(0, b""), false);
        assert!(ask(&asked, "PUT").unwrap_err().is_timeout());
        assert_eq!(asked.tokens.missing(), Some(NoToken::Silence));
    }

    #[test]
    fn a_token_without_a_time_is_used_and_a_refusal_with_one_is_no_token() {
        let answer = ask(&asked(Says(200, b"AQAAA"), true), "PUT").unwrap();
        assert_eq!(answer.headers().get(TTL), Some(USUAL_TTL));
        for status in [401, 404, 405, 500] {
            let answer = ask(&asked(Says(status, b"AQAAA"), false), "PUT").unwrap();
            assert_eq!((answer.status().as_u16(), answer.headers().get(TTL)), (status, None));
        }
    }

    #[test]
    fn a_token_that_comes_later_is_used() {
        let mut asked = asked(Says(404, b""), true);
        ask(&asked, "PUT").unwrap();
        asked.connector = SharedHttpConnector::new(Says(200, b"AQAAA"));
        assert_eq!(body(ask(&asked, "PUT")).unwrap(), b"AQAAA");
        assert_eq!(body(ask(&asked, "GET")).unwrap(), b"token");
    }

    /// Where nothing can be connected to, nothing is known about tokens. A server that closes the connection is silent.
    #[test]
    fn who_cannot_be_connected_to_is_not_silent() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = server.local_addr().unwrap();
        let closes = thread::spawn(move || drop(server.accept().unwrap()));
        let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        for (address, expected) in [(there, Some(NoToken::Silence)), (nowhere, None)] {
            let tokens = Tokens::new(false);
            let config =
                ProviderConfig::without_region().with_http_client(tokens.client(http::client()));
            let client = imds::Client::builder().configure(&config).max_attempts(1);
            let client = client.endpoint(format!("http://{address}")).unwrap().build();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let answer = runtime.block_on(client.get("/latest/meta-data/"));
            assert!(answer.is_err(), "{address}");
            assert_eq!(tokens.missing(), expected, "{address}");
        }
        closes.join().unwrap();
    }
}
