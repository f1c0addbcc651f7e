//! The HTTP server: reads requests, gets the answers from the service, and causes network faults.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io, net,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::{
    control,
    fault::Fault,
    query,
    service::{Answer, Service},
};

/// The longest accepted body.
const MAX_BODY: usize = 1 << 20;

/// The error that makes the server reset the connection.
type Reset = Box<dyn std::error::Error + Send + Sync>;

/// Serves the listener until `stop` completes. Everything runs on the calling thread.
pub(crate) fn run(
    listener: net::TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        tokio::select! {
            () = stop => Ok(()),
            _ = accept_all(listener) => Ok(()),
        }
    })
    // The drop of the runtime drops all connections, including those without an answer.
}

async fn accept_all(listener: TcpListener) -> Infallible {
    let service = Arc::new(Mutex::new(Service::default()));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, service.clone()))),
            // Probably the process has no free descriptors; some are closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream, service: Arc<Mutex<Service>>) {
    let answer = service_fn(|request| Box::pin(respond(request, &service)));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    // Do not shut the stream down here, so that it can still be reset.
    let outcome = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    if outcome.is_err() {
        // The close then sends RST instead of FIN. If the client closed the connection first, this has no effect.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    service: &Mutex<Service>,
) -> Result<Response<Full<Bytes>>, Reset> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
    if let Some(command) = head.uri.path().strip_prefix(control::PREFIX) {
        return Ok(control_response(control::run(&mut lock(service), command, &body)));
    }
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let signer = authorization.and_then(query::signer);
    let call = lock(service).arrive(query::parse(&body), signer);
    if !call.settings.latency.is_zero() {
        tokio::time::sleep(call.settings.latency).await;
    }
    match call.fault {
        Some(Fault::BlackHole) => pending().await,
        Some(Fault::Reset) => Err("an injected reset".into()),
        _ => Ok(sts_response(lock(service).answer(&call))),
    }
}

/// Ignores poison: after a panic in one call the state is still valid for the others.
fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sts_response(answer: Answer) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::builder()
        .status(status)
        .header("x-amzn-RequestId", answer.request_id)
        .header(CONTENT_TYPE, "text/xml")
        .header(DATE, answer.date);
    if let Some(seconds) = answer.retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.body(Full::from(answer.body)).expect("status and headers are well-formed")
}

fn control_response(outcome: io::Result<Vec<u8>>) -> Response<Full<Bytes>> {
    let (status, body) = match outcome {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
