//! A worker: attaches to the session and serves HTTP on the shared listener.

use std::{
    convert::Infallible,
    io::{PipeWriter, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::presigning::PresigningConfig;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    },
    unistd::{User, setgid, setgroups, setuid},
};
use serde_json::json;
use shmcreds::SharedSession;
use tokio::signal::unix::{SignalKind, signal as stream};
use tracing::Level;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{Fallible, say};

/// How long open requests may take once the end has come.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the worker waits after it could not accept a connection.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a presigned URL is valid.
const VALID: Duration = Duration::from_secs(300);

/// Serves until SIGTERM.
pub fn serve(
    json: bool,
    user: Option<&User>,
    listener: &TcpListener,
    name: &str,
    report: PipeWriter,
) -> Fallible<()> {
    if let Some(user) = user {
        // The groups first: afterwards it would not be allowed any more.
        setgroups(&[user.gid])?;
        setgid(user.gid)?;
        setuid(user.uid)?;
        // A change of the user clears it, and the worker has to die with the parent.
        set_pdeathsig(Signal::SIGTERM)?;
    }
    let start = Instant::now();
    let session = SharedSession::attach(name)?;
    show_events(json);
    first_credentials(json, &session, start, &report)?;
    // Everything with threads, sockets or signal handlers comes after the fork.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = listener.try_clone()?;
    let waits = Arc::new(LongestWait::default());
    runtime.block_on(accept(listener, session, Arc::clone(&waits)))?;
    waits.report(&report)
}

/// The library's own events become live lines. Those of a refresh do not: the parent prints what comes
/// of each, since not only workers refresh.
fn show_events(json: bool) {
    let shown = Targets::new()
        .with_target("shmcreds", Level::INFO)
        .with_target("shmcreds::refresh::refresher", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().without_time().with_ansi(false);
    let lines = if json { lines.with_writer(std::io::stderr).boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(lines.with_filter(shown)).init();
}

/// The longest that a request has waited for credentials.
#[derive(Default)]
struct LongestWait(AtomicU64);

impl LongestWait {
    fn note(&self, wait: Duration) {
        self.0.fetch_max(wait.as_nanos() as u64, Ordering::Relaxed);
    }

    fn report(&self, mut report: &PipeWriter) -> Fallible<()> {
        let longest = self.0.load(Ordering::Relaxed) as f64 / 1e6;
        Ok(report.write_all(format!("read {longest}\n").as_bytes())?)
    }
}

/// Says how long the first credentials took, to people and to the parent.
fn first_credentials(
    json: bool,
    session: &SharedSession,
    start: Instant,
    mut report: &PipeWriter,
) -> Fallible<()> {
    let pid = std::process::id();
    match session.credentials() {
        Ok(credentials) => {
            let took = start.elapsed().as_secs_f64() * 1e3;
            let key = credentials.access_key_id();
            let tail = &key[key.len().saturating_sub(4)..];
            say!(json, "worker {pid} has credentials …{tail} after {took:.1} ms");
            // One short line: it stays whole although other processes write.
            report.write_all(format!("{took} {key}\n").as_bytes())?;
        }
        // It serves nevertheless: the next request tries again.
        Err(error) => say!(json, "worker {pid} has no credentials: {error}"),
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    session: SharedSession,
    waits: Arc<LongestWait>,
) -> Fallible<()> {
    let mut end = stream(SignalKind::terminate())?;
    // Ctrl-C goes to the whole terminal; the parent passes it on when it is time.
    // SAFETY: no handler of ours runs.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;

    let listener = tokio::net::TcpListener::from_std(listener)?;
    let s3 = aws_sdk_s3::Client::new(&sdk_config(&session).await);
    let open = GracefulShutdown::new();
    loop {
        let connection = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = end.recv() => break,
        };
        let Ok((stream, _)) = connection else {
            // No descriptor left, most likely: some will be closed soon.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let server = Server { s3: s3.clone(), session: session.clone(), waits: Arc::clone(&waits) };
        let service = service_fn(move |request| answer(request, server.clone()));
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(open.watch(served));
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, open.shutdown()).await;
    Ok(())
}

/// As the session gives it; a URL needs some Region, even where the environment names none.
async fn sdk_config(session: &SharedSession) -> aws_config::SdkConfig {
    let config = session.sdk_config().await;
    match config.region() {
        Some(_) => config,
        None => config.into_builder().region(aws_config::Region::new("us-east-1")).build(),
    }
}

type Answer = Response<Full<Bytes>>;

/// What a request is answered with.
#[derive(Clone)]
struct Server {
    s3: aws_sdk_s3::Client,
    session: SharedSession,
    waits: Arc<LongestWait>,
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    server: Server,
) -> Result<Answer, Infallible> {
    let answer = match (request.method(), request.uri().path()) {
        (&Method::GET, "/presign") => {
            presign(request.uri().query().unwrap_or_default(), &server).await
        }
        (&Method::GET, "/status") => status(&server.session),
        _ => text(StatusCode::NOT_FOUND, "GET /presign?bucket=B&key=K or GET /status"),
    };
    Ok(answer)
}

async fn presign(query: &str, server: &Server) -> Answer {
    let field = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
    };
    let (Some(bucket), Some(key)) = (field("bucket"), field("key")) else {
        return text(StatusCode::BAD_REQUEST, "bucket and key: both must be given and not empty");
    };
    let valid = match PresigningConfig::expires_in(VALID) {
        Ok(valid) => valid,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    // What the SDK will ask for in a moment, to know how long it takes.
    let start = Instant::now();
    let _ = server.session.provide_credentials().await;
    server.waits.note(start.elapsed());
    match server.s3.get_object().bucket(bucket).key(key).presigned(valid).await {
        Ok(signed) => text(StatusCode::OK, signed.uri().to_owned()),
        Err(error) => {
            let error = aws_sdk_s3::error::DisplayErrorContext(error);
            text(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
    }
}

fn status(session: &SharedSession) -> Answer {
    let status = match session.status() {
        Ok(status) => status,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let failure = status.last_failure().map(|failure| {
        json!({
            "class": failure.failure().class().to_string(),
            "message": failure.failure().to_string(),
            "in_a_row": failure.in_a_row(),
            "next_attempt_in_s": failure.next_attempt_in().as_secs_f64(),
        })
    });
    let body = json!({
        "pid": std::process::id(),
        "session": session.name(),
        "state": status.state().as_str(),
        "generation": status.generation(),
        "access_key_tail": status.access_key_tail(),
        "expires_in_s": status.expires_in().as_secs(),
        "refresh_in_s": status.refresh_in().as_secs(),
        "refresher": status.lease_holder().map(|refresher| refresher.pid()),
        "last_failure": failure,
        "source_calls": status.source_calls(),
        "published": status.published(),
        "failed": status.failed(),
        "takeovers": status.takeovers(),
        "invalidations": status.invalidations(),
    });
    let mut answer = text(StatusCode::OK, body.to_string());
    let json = hyper::header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    answer
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::from(body.into() + "\n"));
    *answer.status_mut() = status;
    answer
}
