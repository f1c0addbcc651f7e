//! Reads the body of an HTTP answer before the SDK does.

use std::mem;

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::ConnectorError};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use hyper::body::Bytes;

/// Reads the body. The SDK can still read it from the same answer.
///
/// Gives `None`, and reads nothing, if the body is known to be longer than `longest` bytes.
pub(crate) async fn peek(
    answer: &mut HttpResponse,
    longest: u64,
) -> Result<Option<Bytes>, ConnectorError> {
    let length = answer.headers().get("content-length").and_then(|length| length.parse().ok());
    let length = length.or(answer.body().content_length());
    if length.is_some_and(|length: u64| length > longest) {
        return Ok(None);
    }
    let body = mem::replace(answer.body_mut(), SdkBody::taken());
    let body = ByteStream::new(body).collect().await;
    let body = body.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    *answer.body_mut() = SdkBody::from(body.clone());
    Ok(Some(body))
}
