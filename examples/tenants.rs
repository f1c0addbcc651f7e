//! A prefork server with a role for each tenant: 8 workers, 200 tenants, one pool of roles.
//!
//! `cargo run --example tenants -- [--json] [--workers N] [--tenants N] [--requests N]` starts an embedded STS, forks the
//! workers, and sends requests for tenants to them. A request is a line with the number of the tenant. Each worker builds
//! the recipe of the role for each request. STS answers with a secret that is a function of all inputs, so the worker can
//! tell whose set it got.
#![allow(unsafe_code)]

use std::{
    error::Error,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use shmcreds::{
    AssumeRole, Provider, SharedRoles,
    testing::{LocalSts, is_set_of},
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CLIENTS: usize = 4;

struct Options {
    json: bool,
    workers: usize,
    tenants: usize,
    requests: usize,
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    own: usize,
    foreign: usize,
    failed: usize,
    worst: Duration,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    let options = options()?;
    let sts = LocalSts::fork()?;
    let base = Provider::new("base", || async {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "example")
    });
    let name = format!("example-tenants-{}", std::process::id());
    let roles = SharedRoles::builder(&name)
        .base_source(base)
        .allow("arn:aws:iam::*:role/tenant-*")
        .capacity(options.tenants)
        .calls_per_second(10_000)
        .create()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut workers = Vec::new();
    for _ in 0..options.workers {
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => workers.push(child),
            ForkResult::Child => {
                let served = serve(&name, &listener, &sts.url());
                // SAFETY: ends the worker without the exit handlers of its parent.
                unsafe { nix::libc::_exit(i32::from(served.is_err())) }
            }
        }
    }
    drop(listener);
    let seen = drive(address, &options)?;
    for _ in &workers {
        ask(address, "stop")?;
    }
    workers.into_iter().try_for_each(|worker| waitpid(worker, None).map(drop))?;
    let (calls, entries) = (sts.count("AssumeRole")?, roles.status()?.entries().len());
    let requests = options.requests;
    let worst = seen.worst.as_secs_f64() * 1000.0;
    if options.json {
        println!(
            "{{\"workers\":{},\"tenants\":{},\"requests\":{requests},\"failed\":{},\"calls\":{calls},\
             \"entries\":{entries},\"foreign\":{},\"worst_ms\":{worst:.1}}}",
            options.workers, options.tenants, seen.failed, seen.foreign
        );
    } else {
        println!(
            "{} workers served {} requests for {} tenants: {calls} calls of STS, {entries} entries, {} foreign sets, {} \
             failed; the longest took {worst:.1} ms",
            options.workers, seen.own, options.tenants, seen.foreign, seen.failed
        );
    }
    Ok(seen.foreign == 0 && seen.failed == 0 && calls == options.tenants.min(requests))
}

/// A worker: it serves one connection after the other, until it is told to stop.
fn serve(name: &str, listener: &TcpListener, sts: &str) -> Outcome<()> {
    let roles = SharedRoles::attach(name)?;
    loop {
        let (stream, _) = listener.accept()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim() == "stop" {
            return Ok(());
        }
        let answer = match credentials_of(&roles, line.trim(), sts) {
            Ok(true) => "own",
            Ok(false) => "foreign",
            Err(error) => &error.to_string(),
        };
        writeln!(reader.get_mut(), "{answer}")?;
    }
}

/// Whether the set that the pool gives is that of the tenant.
fn credentials_of(roles: &SharedRoles, tenant: &str, sts: &str) -> Outcome<bool> {
    let (arn, id) =
        (format!("arn:aws:iam::123456789012:role/tenant-{tenant}"), format!("id-{tenant}"));
    let recipe = AssumeRole::new(&arn)
        .session_name("server")
        .external_id(&id)
        .region("us-east-1")
        .endpoint_url(sts);
    let set = roles.role(recipe)?.credentials()?;
    let inputs = [("RoleArn", &*arn), ("RoleSessionName", "server"), ("ExternalId", &*id)];
    Ok(is_set_of(&set, &inputs))
}

fn ask(address: SocketAddr, line: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Sends the requests from some clients at once, for one tenant after the other.
fn drive(address: SocketAddr, options: &Options) -> Outcome<Seen> {
    let client = |client: usize| -> Outcome<Seen> {
        let mut seen = Seen::default();
        for request in (client..options.requests).step_by(CLIENTS) {
            let began = Instant::now();
            match &*ask(address, &(request % options.tenants).to_string())? {
                "own" => seen.own += 1,
                "foreign" => seen.foreign += 1,
                error => {
                    eprintln!("{error}");
                    seen.failed += 1;
                }
            }
            seen.worst = seen.worst.max(began.elapsed());
        }
        Ok(seen)
    };
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().try_fold(Seen::default(), |sum, client| {
            let seen = client.join().map_err(|_| "a client panicked")??;
            Ok(Seen {
                own: sum.own + seen.own,
                foreign: sum.foreign + seen.foreign,
                failed: sum.failed + seen.failed,
                worst: sum.worst.max(seen.worst),
            })
        })
    })
}

fn options() -> Outcome<Options> {
    let mut options = Options { json: false, workers: 8, tenants: 200, requests: 2000 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Outcome<usize> {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            Ok(value.parse()?)
        };
        match &*argument {
            "--json" => options.json = true,
            "--workers" => options.workers = number()?.max(1),
            "--tenants" => options.tenants = number()?.max(1),
            "--requests" => options.requests = number()?,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(options)
}
