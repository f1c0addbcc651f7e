//! The program `shmcreds`: how long `credentials` takes from start to exit, beside other programs of its
//! kind, and what the endpoint bears. Prints medians and ratios of one run.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use shmcreds::testing::LocalSts;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const BINARY: &str = env!("CARGO_BIN_EXE_shmcreds");
/// What a `credential_process` in Python does at least.
const PYTHON: &str =
    "import json, os; print(json.dumps({'Version': 1, 'AccessKeyId': os.getcwd()}))";
const CLIENTS: usize = 32;
const REQUESTS: usize = 4000;
const CROWD: usize = 10_000;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A sidecar with the endpoint.
struct Sidecar {
    child: Child,
    name: String,
    address: String,
    token: String,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    fn start(sts: &LocalSts) -> Outcome<Self> {
        let name = format!("bench-cli-{}", std::process::id());
        let folder = tempfile::tempdir()?;
        let token = folder.path().join("token");
        let mut child = Command::new(BINARY)
            .args(["serve", "--name", &name, "--role-arn", "arn:aws:iam::123456789012:role/app"])
            .args(["--sts-region", "us-east-1", "--sts-endpoint-url", &sts.url(), "--token-file"])
            .arg(&token)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let url = BufReader::new(out).lines().next().ok_or("it ended at once")??;
        let address = url.trim_start_matches("http://").split('/').next().unwrap_or("").to_owned();
        let token = std::fs::read_to_string(token)?;
        let sidecar = Sidecar { child, name, address, token, _folder: folder };
        let end = Instant::now() + Duration::from_secs(60);
        while start_to_exit(BINARY, &["credentials", &sidecar.name]).is_err() {
            if Instant::now() > end {
                return Err("no set within a minute".into());
            }
        }
        Ok(sidecar)
    }

    fn request(&self) -> String {
        let (host, token) = (&self.address, &self.token);
        format!("GET /credentials HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn start_to_exit(program: &str, arguments: &[&str]) -> Outcome<Duration> {
    let began = Instant::now();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status()?.success() {
        true => Ok(began.elapsed()),
        false => Err(format!("{program} failed").into()),
    }
}

fn median(program: &str, arguments: &[&str], runs: usize) -> Outcome<Duration> {
    let mut times: Vec<Duration> =
        (0..runs).map(|_| start_to_exit(program, arguments)).collect::<Outcome<_>>()?;
    times.sort();
    Ok(times[runs / 2])
}

/// Sends the request and reads the answer, whose length is known from the first one.
async fn ask(stream: &mut TcpStream, request: &str, answer: &mut [u8]) -> Outcome<()> {
    stream.write_all(request.as_bytes()).await?;
    stream.read_exact(answer).await?;
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(()),
        false => Err("refused".into()),
    }
}

/// The length of an answer.
async fn length(address: &str, request: &str) -> Outcome<usize> {
    let mut stream = TcpStream::connect(address).await?;
    let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(last.as_bytes()).await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(all.len() - "connection: close\r\n".len())
}

async fn client(address: String, request: String, length: usize) -> Outcome<Vec<Duration>> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; length];
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        ask(&mut stream, &request, &mut answer).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

async fn endpoint(sidecar: &Sidecar) -> Outcome<()> {
    let (address, request) = (&sidecar.address, sidecar.request());
    let length = length(address, &request).await?;
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(address.clone(), request.clone(), length)))
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort();
    let [p50, p99] = [50, 99].map(|percent| times[times.len() * percent / 100]);
    println!(
        "endpoint, {CLIENTS} clients with keep-alive: {rate:.0} requests/s, p50 {p50:?}, p99 {p99:?}"
    );

    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        crowd.push(TcpStream::connect(address).await?);
    }
    let mut answer = vec![0; length];
    let began = Instant::now();
    for stream in &mut crowd {
        ask(stream, &request, &mut answer).await?;
    }
    println!(
        "endpoint, {CROWD} clients at once: all served, {:?} each",
        began.elapsed() / CROWD as u32
    );
    Ok(())
}

fn main() -> Outcome<()> {
    // `cargo test --benches` compiles and starts it.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    let sts = LocalSts::start()?;
    let sidecar = Sidecar::start(&sts)?;
    let own = median(BINARY, &["credentials", &sidecar.name], 200)?;
    println!("shmcreds credentials, start to exit: {own:?}");
    let peers: [(&str, &str, &[&str], usize); 3] = [
        ("true", "true", &[], 200),
        ("a credential_process in Python", "python3", &["-c", PYTHON], 30),
        ("aws --version", "aws", &["--version"], 5),
    ];
    for (what, program, arguments, runs) in peers {
        match median(program, arguments, runs) {
            Ok(time) => println!(
                "{what}: {time:?}, {:.1} times as long",
                time.as_secs_f64() / own.as_secs_f64()
            ),
            Err(_) => println!("{what}: not on this machine"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(endpoint(&sidecar))
}
