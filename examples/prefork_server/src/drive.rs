//! The drive: a process that sends requests to the workers, and what came of them.

use std::{
    collections::BTreeSet,
    io::{PipeReader, Read, Write},
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Uri, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nix::{
    sys::{
        signal::{SigHandler, SigSet, Signal, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, close},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shmcreds::{SharedSession, testing::LocalSts};
use tokio::task::JoinSet;

use crate::{Fallible, args::Args, parent::child, say};

/// A request without an answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The process that drives. One of its own, because it has a runtime, and the parent must not.
pub struct Driver {
    pub pid: Pid,
    outcome: PipeReader,
}

/// What the requests came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    requests: u64,
    failed: u64,
    seconds: f64,
    access_keys: BTreeSet<String>,
}

/// Starts the driver, if one is asked for.
pub fn start(args: &Args, listener: &TcpListener) -> Fallible<Option<Driver>> {
    let Some(requests) = args.drive else { return Ok(None) };
    let server = listener.local_addr()?;
    let (outcome, mut report) = std::io::pipe()?;
    let pid = child(|| {
        // This process serves nobody, and is not to keep the socket open for those who do. It ends by
        // `exit`, which drops nothing: nobody closes the number again.
        close(listener.as_raw_fd())?;
        end_on_signals()?;
        let outcome = drive(server, args.workers, requests.get())?;
        report.write_all(&serde_json::to_vec(&outcome)?)?;
        Ok(())
    })?;
    Ok(Some(Driver { pid, outcome }))
}

/// Undoes what the parent did in order to wait for signals: here each of them is the end, and so is
/// the one that tells of the parent's death.
fn end_on_signals() -> nix::Result<()> {
    for one in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: no handler of ours runs.
        unsafe { signal(one, SigHandler::SigDfl) }?;
    }
    SigSet::empty().thread_set_mask()
}

/// As many connections as workers, each with its share of the requests.
fn drive(server: SocketAddr, workers: u32, requests: u32) -> Fallible<Outcome> {
    let url: Uri = format!("http://{server}/presign?bucket=bucket&key=some/key").parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let mut total = runtime.block_on(async {
        let mut connections = JoinSet::new();
        (0..workers).for_each(|_| drop(connections.spawn(connection(url.clone(), requests))));
        let mut total = Outcome::default();
        while let Some(part) = connections.join_next().await {
            let part = part?;
            total.requests += part.requests;
            total.failed += part.failed;
            total.access_keys.extend(part.access_keys);
        }
        Fallible::Ok(total)
    })?;
    total.seconds = start.elapsed().as_secs_f64();
    Ok(total)
}

async fn connection(url: Uri, requests: u32) -> Outcome {
    // A client of its own, so that each connection is kept and none is shared.
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut outcome = Outcome::default();
    for _ in 0..requests {
        outcome.requests += 1;
        let signed = tokio::time::timeout(PATIENCE, get(&client, url.clone())).await;
        match signed.ok().flatten().as_deref().and_then(access_key) {
            Some(key) => drop(outcome.access_keys.insert(key.to_owned())),
            None => outcome.failed += 1,
        }
    }
    outcome
}

/// The body of a good answer.
async fn get(client: &Client<HttpConnector, Empty<Bytes>>, url: Uri) -> Option<String> {
    let answer = client.get(url).await.ok().filter(|answer| answer.status().is_success())?;
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    String::from_utf8(body.into()).ok()
}

/// The access key that signed the URL.
fn access_key(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("X-Amz-Credential=")?;
    rest.split_once("%2F").map(|(key, _)| key)
}

impl Driver {
    /// Waits for the end.
    pub fn outcome(mut self) -> Fallible<Outcome> {
        let mut text = Vec::new();
        self.outcome.read_to_end(&mut text)?;
        match waitpid(self.pid, None)? {
            WaitStatus::Exited(_, 0) => Ok(serde_json::from_slice(&text)?),
            WaitStatus::Signaled(_, signal, _) => {
                Err(format!("the drive was cut short by {signal}").into())
            }
            other => Err(format!("the driver ended with {other:?}").into()),
        }
    }
}

/// Prints what came of it; an error if the embedded STS has counted other calls than the segment. A
/// refresher counts its call before it makes it: one that was killed in between, and only such a one,
/// may be missing at the STS, and somebody took over from each.
pub fn summary(
    args: &Args,
    session: &SharedSession,
    sts: Option<&LocalSts>,
    mut outcome: Outcome,
    reports: &str,
) -> Fallible<()> {
    let (mut waits, mut longest) = (Vec::new(), 0f64);
    for (wait, key) in reports.lines().filter_map(|line| line.split_once(' ')) {
        if wait == "read" {
            longest = longest.max(key.parse()?);
            continue;
        }
        waits.push(wait.parse::<f64>()?);
        outcome.access_keys.insert(key.to_owned());
    }
    waits.sort_by(f64::total_cmp);
    let rounded = |milliseconds: f64| (milliseconds * 1e3).round() / 1e3;
    let at = |share: f64| {
        let index = (waits.len() as f64 * share).ceil() as usize;
        waits.get(index.saturating_sub(1)).map(|wait| rounded(*wait))
    };
    let status = session.status()?;
    let calls = status.source_calls();
    if let Some(counted) = sts.map(|sts| sts.count("AssumeRole")).transpose()?
        && !(counted as u64..=counted as u64 + status.takeovers()).contains(&calls)
    {
        return Err(format!("the STS counted {counted} calls, the segment {calls}").into());
    }
    let summary = json!({
        "workers": args.workers,
        "requests": outcome.requests,
        "failed": outcome.failed,
        "source_calls": calls,
        "generations": status.generation(),
        "takeovers": status.takeovers(),
        "access_keys": outcome.access_keys.len(),
        "first_credentials_ms": { "p50": at(0.5), "p99": at(0.99), "max": at(1.0) },
        "max_read_wait_ms": rounded(longest),
        "requests_per_second": (outcome.requests as f64 / outcome.seconds).round(),
    });
    if args.json {
        writeln!(std::io::stdout(), "{summary}")?;
    } else {
        say!(false, "{summary:#}");
    }
    Ok(())
}
