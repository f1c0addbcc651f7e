//! An HTTP client that records the last refusal of a server.
//!
//! A server explains a refusal in the body. The errors of the SDK's providers show the status at most.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient},
    orchestrator::HttpResponse,
    result::ConnectorError,
};
use hyper::body::Bytes;

use super::{retry_after, source_error::SourceError};
use crate::{http_body, http_layer::layer};

/// A refusal has a few hundred bytes. A longer body is not read here.
const LONGEST_REFUSAL: u64 = 64 * 1024;

/// An answer without success.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// How long the server asks its callers to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    /// Adds to a failure what the headers said.
    pub(super) fn complete(&self, failure: SourceError) -> SourceError {
        match self.retry_after {
            Some(time) => failure.with_retry_after(time),
            None => failure,
        }
    }
}

type Last = Arc<Mutex<Option<Refusal>>>;

/// The client, and the last refusal that it got.
#[derive(Clone, Debug)]
pub(super) struct RefusalRecorder {
    client: SharedHttpClient,
    last: Last,
}

impl RefusalRecorder {
    pub(super) fn new(client: SharedHttpClient) -> Self {
        let last = Last::default();
        let kept = Arc::clone(&last);
        let client = layer(client, move |connector, request| {
            let (answering, last) = (connector.call(request), Arc::clone(&kept));
            HttpConnectorFuture::new(async move {
                let mut answer = answering.await?;
                let refusal = refusal(&mut answer).await?;
                *last.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
                Ok(answer)
            })
        });
        RefusalRecorder { client, last }
    }

    pub(super) fn client(&self) -> SharedHttpClient {
        self.client.clone()
    }

    /// The last answer, if it was a refusal.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The answer, if it is a refusal. The body of a success is not read: it may hold a secret.
async fn refusal(answer: &mut HttpResponse) -> Result<Option<Refusal>, ConnectorError> {
    if answer.status().is_success() {
        return Ok(None);
    }
    let status = answer.status().as_u16();
    let retry_after = retry_after::of(|name| answer.headers().get(name));
    let body = http_body::peek(answer, LONGEST_REFUSAL).await?.unwrap_or_default();
    Ok(Some(Refusal { status, body, retry_after }))
}
