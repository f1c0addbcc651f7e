//! An HTTP client that remembers the last refusal: providers of the SDK name its status at most, and a server says
//! in the body what is wrong.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};

/// A refusal has a few hundred bytes; more is not looked at.
const LONGEST_REFUSAL: u64 = 64 * 1024;

/// An answer that is no success.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

type Last = Arc<Mutex<Option<Refusal>>>;

/// The client, and what it has heard.
#[derive(Clone, Debug)]
pub(super) struct Overhearing {
    client: SharedHttpClient,
    last: Last,
}

impl Overhearing {
    pub(super) fn new(client: SharedHttpClient) -> Self {
        Overhearing { client, last: Last::default() }
    }

    /// The last answer, if it was a refusal.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpClient for Overhearing {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = self.client.http_connector(settings, components);
        SharedHttpConnector::new(Connector { connector, last: Arc::clone(&self.last) })
    }
}

#[derive(Debug)]
struct Connector {
    connector: SharedHttpConnector,
    last: Last,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answering = self.connector.call(request);
        let last = Arc::clone(&self.last);
        HttpConnectorFuture::new(async move {
            let (answer, heard) = hear(answering.await?).await?;
            *last.lock().unwrap_or_else(PoisonError::into_inner) = heard;
            Ok(answer)
        })
    }
}

/// A success may hold a secret, and is not looked at.
async fn hear(mut answer: HttpResponse) -> Result<(HttpResponse, Option<Refusal>), ConnectorError> {
    if answer.status().is_success() {
        return Ok((answer, None));
    }
    let status = answer.status().as_u16();
    let length = answer.headers().get("content-length").and_then(|length| length.parse().ok());
    if length.is_some_and(|length: u64| length > LONGEST_REFUSAL) {
        return Ok((answer, Some(Refusal { status, body: Vec::new() })));
    }
    let body = mem::replace(answer.body_mut(), SdkBody::taken());
    let body = ByteStream::new(body).collect().await;
    let body = body.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    let heard = Refusal { status, body: body.to_vec() };
    *answer.body_mut() = SdkBody::from(body);
    Ok((answer, Some(heard)))
}
