//! A stand-in for S3: it takes every upload, and remembers which access keys signed them.

use std::{
    collections::BTreeSet,
    io,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header::AUTHORIZATION,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;

/// What has arrived.
#[derive(Default)]
pub struct Arrived {
    pub uploads: usize,
    pub access_keys: BTreeSet<String>,
}

/// Serves on a thread of its own until the process ends; gives the address.
pub fn start(arrived: Arc<Mutex<Arrived>>) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let arrived = arrived.clone();
                let answer = service_fn(move |request| take(request, arrived.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
            #[allow(unreachable_code)]
            io::Result::Ok(())
        })
    });
    Ok(url)
}

async fn take(
    request: Request<Incoming>,
    arrived: Arc<Mutex<Arrived>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    body.collect().await?;
    let signed = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = signed.and_then(|text| text.split_once("Credential=")?.1.split('/').next());
    let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let mut response = Response::new(Full::default());
    match key {
        Some(key) if head.method == Method::PUT => {
            arrived.uploads += 1;
            arrived.access_keys.insert(key.to_owned());
        }
        _ => *response.status_mut() = hyper::StatusCode::FORBIDDEN,
    }
    Ok(response)
}
