//! The STS of the next Region is asked when one fails. Each Region is an embedded STS of its own, behind a proxy that
//! speaks TLS as the STS of AWS does.
#![allow(unsafe_code)]

#[path = "support/sources.rs"]
mod sources;
mod support;

use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_credential_types::Credentials;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use shmcreds::{
    AssumeRole, ErrorKind, SharedSession,
    testing::{Fault, LocalSts, ManualClock, Times},
};
use sources::{environment, stand_in};
use support::{Child, StopFile, assumed, child, name, until};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

fn main() {
    support::run_forking(&[
        ("the_first_region_is_asked", the_first_region_is_asked),
        ("the_next_is_asked_when_one_fails", the_next_is_asked),
        ("a_region_that_failed_is_asked_last_by_all", a_region_that_failed_is_asked_last),
        ("a_region_that_is_silent_has_its_part_of_the_time", a_silent_region),
        ("a_refusal_is_that_of_every_region", a_refusal_is_that_of_every_region),
        ("the_failure_of_all_is_one_failure", the_failure_of_all),
        ("an_endpoint_of_the_environment_is_asked_alone", an_endpoint_of_the_environment),
        ("the_region_of_the_instance_is_asked_by_either_version", the_region_of_the_instance),
    ]);
}

const REGIONS: [&str; 2] = ["eu-central-1", "eu-west-1"];

/// Two Regions of AWS.
struct Aws {
    sts: [LocalSts; 2],
    _proxy: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Aws {
    fn new() -> Self {
        let sts = [LocalSts::fork().unwrap(), LocalSts::fork().unwrap()];
        let folder = tempfile::tempdir().unwrap();
        for (region, sts) in REGIONS.iter().zip(&sts) {
            let address = sts.url();
            fs::write(folder.path().join(region), address.trim_start_matches("http://")).unwrap();
        }
        fs::write(folder.path().join("asked"), "").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (authority, server) = certificates();
        fs::write(folder.path().join("ca.pem"), authority).unwrap();
        let path = folder.path().to_owned();
        let _proxy = child(|_| serve(listener, server, path));
        Aws { sts, _proxy, url, folder }
    }

    /// What a connection to that Region leads to: `down`, `silent`, or an address.
    fn set(&self, region: usize, leads_to: &str) {
        fs::write(self.folder.path().join(REGIONS[region]), leads_to).unwrap();
    }

    /// The Regions that were connected to since the last look, by their numbers: `-` is another one.
    fn asked(&self) -> String {
        let file = self.folder.path().join("asked");
        let asked = fs::read_to_string(&file).unwrap();
        fs::write(&file, "").unwrap();
        let number = |line: &str| REGIONS.iter().position(|region| line.contains(region));
        let told = |line: &str| number(line).map_or("-".to_owned(), |number| number.to_string());
        asked.lines().map(told).collect()
    }

    /// A process that has the session until it is told to stop.
    fn keep(&self, stop: &StopFile, create: impl FnOnce() -> SharedSession) -> Child {
        let ca = self.folder.path().join("ca.pem");
        let mut keeper = child(|report| {
            environment(&[("HTTPS_PROXY", &self.url), ("AWS_CA_BUNDLE", ca.to_str().unwrap())]);
            let _session = create();
            report.say(".");
            until("the test is over", || stop.is_there());
        });
        assert_eq!(keeper.hear(), b'.');
        keeper
    }

    /// Runs `work` in a process whose way to AWS is the proxy.
    fn process(&self, work: impl FnOnce() -> String) -> String {
        self.process_with(&[], work)
    }

    /// The same with more variables.
    fn process_with(&self, more: &[(&str, &str)], work: impl FnOnce() -> String) -> String {
        let ca = self.folder.path().join("ca.pem");
        let mut variables =
            vec![("HTTPS_PROXY", self.url.as_str()), ("AWS_CA_BUNDLE", ca.to_str().unwrap())];
        variables.extend(more);
        child(|report| {
            environment(&variables);
            report.say(work());
        })
        .finish()
    }
}

/// A certificate authority, and a server with a certificate for the STS of each Region.
fn certificates() -> (String, ServerConfig) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let names = REGIONS.map(|region| format!("sts.{region}.amazonaws.com")).to_vec();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap().pem();
    let server = CertificateDer::from_pem_slice(server.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server], key)
        .unwrap();
    (certificate, config)
}

fn serve(listener: TcpListener, server: ServerConfig, folder: PathBuf) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, folder) = (acceptor.clone(), folder.clone());
            tokio::spawn(async move { tunnel(stream, acceptor, &folder).await });
        }
    });
}

/// A client that goes away early ends it.
async fn tunnel(stream: TcpStream, acceptor: TlsAcceptor, folder: &Path) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let mut line = first.clone();
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
    }
    let region = first.strip_prefix("CONNECT sts.")?.split('.').next()?;
    let mut asked = fs::OpenOptions::new().append(true).open(folder.join("asked")).ok()?;
    writeln!(asked, "{region}").ok()?;
    match fs::read_to_string(folder.join(region)).ok()?.as_str() {
        "down" => stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.ok(),
        "silent" => std::future::pending().await,
        address => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            let mut client = acceptor.accept(stream).await.ok()?;
            let mut sts = TcpStream::connect(address).await.ok()?;
            copy_bidirectional(&mut client, &mut sts).await.ok().map(drop)
        }
    }
}

fn role() -> AssumeRole {
    AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .session_name("test")
        .regions(REGIONS)
        // Enough for an honest answer, however busy the machine.
        .connect_timeout(Duration::from_secs(60))
        .operation_timeout(Duration::from_secs(240))
        .credentials_provider("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "base")
        })
}

/// A key, or the kind of the error and its text.
fn outcome(session: &SharedSession) -> String {
    match session.refresh() {
        Ok(set) => set.access_key_id()[..4].to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind()),
    }
}

fn fetch(aws: &Aws, source: AssumeRole) -> String {
    aws.process(|| {
        outcome(&SharedSession::builder(name("regions")).source(source).create().unwrap())
    })
}

fn the_first_region_is_asked() {
    let aws = Aws::new();
    assert_eq!(fetch(&aws, role()), "ASIA");
    assert_eq!(aws.asked(), "0");
    assert_eq!(fetch(&aws, role().regions([REGIONS[1], REGIONS[0]])), "ASIA");
    assert_eq!(aws.asked(), "1");
}

fn the_next_is_asked() {
    let aws = Aws::new();
    for fault in [Fault::Throttling, Fault::Status(503), Fault::Status(500), Fault::Reset] {
        aws.sts[0].inject(fault.clone(), Times::Next(1)).unwrap();
        assert_eq!(fetch(&aws, role()), "ASIA", "{fault:?}");
        assert_eq!(aws.asked(), "01", "{fault:?}");
    }
    aws.set(0, "down");
    assert_eq!(fetch(&aws, role()), "ASIA");
    assert_eq!(aws.asked(), "01");
    assert_eq!((assumed(&aws.sts[0]), assumed(&aws.sts[1])), (4, 5));
}

fn a_region_that_failed_is_asked_last() {
    let (aws, clock) = (Aws::new(), ManualClock::new().unwrap());
    let builder = |name: &str| SharedSession::builder(name).source(role()).clock(&clock);
    let name = name("regions-last");
    // Keeps the session for the processes below, which attach with the same source.
    let stop = StopFile::new(&name);
    let keeper = aws.keep(&stop, || builder(&name).create().unwrap());
    let refresh = || aws.process(|| outcome(&builder(&name).attach().unwrap()));
    aws.sts[0].inject(Fault::Throttling, Times::Next(1)).unwrap();
    assert_eq!((refresh().as_str(), aws.asked().as_str()), ("ASIA", "01"));
    // Another process goes by what the first one has met.
    assert_eq!((refresh().as_str(), aws.asked().as_str()), ("ASIA", "1"));
    // It is asked if the other one fails.
    aws.sts[1].inject(Fault::Status(503), Times::Next(1)).unwrap();
    assert_eq!((refresh().as_str(), aws.asked().as_str()), ("ASIA", "10"));
    assert_eq!((refresh().as_str(), aws.asked().as_str()), ("ASIA", "0"));
    // For a while.
    aws.sts[0].inject(Fault::Throttling, Times::Next(1)).unwrap();
    clock.advance(Duration::from_secs(601));
    assert_eq!((refresh().as_str(), aws.asked().as_str()), ("ASIA", "01"));
    clock.advance(Duration::from_secs(599));
    assert_eq!((refresh().as_str(), aws.asked().as_str()), ("ASIA", "1"));
    clock.advance(Duration::from_secs(2));
    assert_eq!((refresh().as_str(), aws.asked().as_str()), ("ASIA", "0"));
    stop.write();
    keeper.finish();
    assert!(!Path::new(&support::segment(&name)).exists(), "nothing is left");
}

fn a_silent_region() {
    let aws = Aws::new();
    aws.set(0, "silent");
    // Half of it is for the Region that is silent.
    assert_eq!(fetch(&aws, role().operation_timeout(Duration::from_secs(12))), "ASIA");
    assert_eq!(aws.asked(), "01");
    aws.set(1, "silent");
    let failure = fetch(&aws, role().operation_timeout(Duration::from_secs(2)));
    assert!(failure.starts_with("SourceTransient: "), "{failure}");
    for region in REGIONS {
        assert!(failure.contains(&format!("STS in {region} gave no answer")), "{failure}");
    }
}

fn a_refusal_is_that_of_every_region() {
    let aws = Aws::new();
    aws.sts[0].inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let failure = fetch(&aws, role());
    assert!(failure.starts_with(&format!("{:?}: ", ErrorKind::SourceTerminal)), "{failure}");
    assert_eq!(aws.asked(), "0");
}

fn the_failure_of_all() {
    let aws = Aws::new();
    aws.set(0, "down");
    aws.sts[1].inject(Fault::Throttling, Times::UntilCleared).unwrap();
    let failure = fetch(&aws, role());
    assert!(failure.starts_with(&format!("{:?}: ", ErrorKind::SourceThrottled)), "{failure}");
    assert!(failure.contains("eu-central-1: ") && failure.contains("Rate exceeded"), "{failure}");
    assert_eq!(aws.asked(), "01");
}

fn an_endpoint_of_the_environment() {
    let (aws, sts) = (Aws::new(), LocalSts::fork().unwrap());
    let key = aws.process(|| {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var("AWS_ENDPOINT_URL_STS", sts.url()) };
        outcome(&SharedSession::builder(name("regions")).source(role()).create().unwrap())
    });
    assert_eq!((key.as_str(), aws.asked().as_str(), assumed(&sts)), ("ASIA", "", 1));
}

fn the_region_of_the_instance() {
    let aws = Aws::new();
    let source = || {
        let role = AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("test");
        role.credentials_provider("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "base")
        })
    };
    let ask = |address: &str, more: &[(&str, &str)]| {
        let mut variables = vec![
            ("AWS_REGION", ""),
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", address),
        ];
        variables.extend(more);
        aws.process_with(&variables, || {
            outcome(&SharedSession::builder(name("regions")).source(source()).create().unwrap())
        })
    };
    // The answer to the request for a token.
    for token in [200, 403, 404, 405, 501, 0, 1] {
        let (_server, url) = stand_in(move |asked| match asked.path.as_str() {
            "/latest/api/token" => (token, "session".into()),
            "/latest/meta-data/placement/region" => {
                let sent = asked.header("x-aws-ec2-metadata-token").is_some();
                if sent == (token == 200) { (200, "eu-west-1".into()) } else { (401, "".into()) }
            }
            _ => (404, String::new()),
        });
        assert_eq!((ask(&url, &[]).as_str(), aws.asked().as_str()), ("ASIA", "1"), "{token}");
        // Without the Region of the instance it is us-east-1, which is not here.
        if token == 405 {
            let disabled = ask(&url, &[("AWS_EC2_METADATA_V1_DISABLED", "true")]);
            assert!(disabled.contains("STS in us-east-1"), "{disabled}");
            assert_eq!(aws.asked(), "-");
        }
    }
    // No other Region is asked in silence.
    let failure = ask("169.254.169.254", &[]);
    assert!(failure.starts_with("SourceMisconfigured: "), "{failure}");
    assert!(failure.contains("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "{failure}");
}
