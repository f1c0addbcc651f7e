//! How long a set lives is decided by its issuer's clock; what passes until it is published is taken off.

#[allow(dead_code)]
#[path = "../examples/stand_in/iot.rs"]
mod iot;
mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use nix::sys::signal::Signal;
use rustls::{ServerConnection, StreamOwned};
use shmcreds::{
    AssumeRole, ErrorKind, IotCore, Pem, SharedSession, Source,
    testing::{self, FaultPoint, LocalSts, ManualClock, Settings},
};
use support::{Child, Report, child, name, role};

fn main() {
    support::run_forking(&[
        ("a_pause_before_publication_is_taken_off", a_pause_before_publication_is_taken_off),
        ("a_slow_body_is_taken_off", a_slow_body_is_taken_off),
        ("an_answer_that_waits_to_be_read_is_taken_off", an_answer_that_waits_is_taken_off),
        ("a_suspend_of_hours_leaves_no_set", a_suspend_of_hours_leaves_no_set),
        ("a_wall_clock_that_steps_changes_nothing", a_wall_clock_that_steps_changes_nothing),
        ("a_wrong_wall_clock_is_corrected", a_wrong_wall_clock_is_corrected),
        ("a_date_that_cannot_be_is_not_believed", a_date_that_cannot_be_is_not_believed),
        ("a_device_s_slow_body_is_taken_off", a_devices_slow_body_is_taken_off),
        ("a_date_that_a_source_gives_late_is_taken_off", a_date_that_is_given_late_is_taken_off),
    ]);
}

const LIFE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(8);
/// The injected clock stands while the machine's goes on, and `Date` has whole seconds.
const TOLERANCE: Duration = Duration::from_millis(3500);

/// Fetches a set whose refresh is stopped when the source has answered, and goes on after `meanwhile`. Gives
/// what is left of the set then.
fn stopped_when_answered(
    settings: Settings,
    meanwhile: impl FnOnce(&ManualClock),
) -> Result<Duration, ErrorKind> {
    let sts = LocalSts::fork().unwrap();
    sts.configure(settings).unwrap();
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name("pause")).source(role(&sts)).clock(&clock);
    let session = builder.create().unwrap();
    let worker = child(|report| {
        testing::signal_at(FaultPoint::Answered, Signal::SIGSTOP as i32);
        if let Err(error) = session.credentials() {
            assert_eq!(error.kind(), ErrorKind::SourceTransient, "{error}");
            report.say("!");
        }
    });
    worker.stopped();
    meanwhile(&clock);
    worker.signal(Signal::SIGCONT);
    match worker.finish().as_str() {
        "" => Ok(session.status().unwrap().expires_in()),
        _ => Err(ErrorKind::SourceTransient),
    }
}

fn assert_left(left: Duration, expected: Duration) {
    assert!(left.abs_diff(expected) <= TOLERANCE, "{left:?} is left, not {expected:?}");
}

fn a_pause_before_publication_is_taken_off() {
    for skew in [0, -300, 300] {
        let settings = Settings::new().lifetime(LIFE).date_skew(skew);
        let left = stopped_when_answered(settings, |clock| clock.advance(PAUSE)).unwrap();
        assert_left(left, LIFE - PAUSE);
    }
}

fn a_suspend_of_hours_leaves_no_set() {
    for skew in [0, -300, 300] {
        let settings = Settings::new().lifetime(LIFE).date_skew(skew);
        let five_hours = Duration::from_secs(5 * 3600);
        let outcome = stopped_when_answered(settings, |clock| clock.advance(five_hours));
        assert_eq!(outcome, Err(ErrorKind::SourceTransient));
    }
}

fn a_wall_clock_that_steps_changes_nothing() {
    let life = Duration::from_secs(3600);
    for step in [-1200, 1200] {
        for skew in [0, -300, 300] {
            let settings = Settings::new().lifetime(life).date_skew(skew);
            let left = stopped_when_answered(settings, |clock| clock.step_wall(step)).unwrap();
            assert_left(left, life);
        }
    }
}

fn a_wrong_wall_clock_is_corrected() {
    for skew in [-86_400, -300, 300, 86_400] {
        let settings = Settings::new().lifetime(LIFE).date_skew(skew);
        assert_left(stopped_when_answered(settings, |_| ()).unwrap(), LIFE);
    }
}

/// How an STS goes about its answer, whose `Date` is that of the request.
#[derive(Clone, Copy)]
enum Halt {
    BeforeTheHeaders,
    InTheBody,
}

/// The head and the body of an answer of STS, with that line for its `Date`.
fn answer_of_sts(date: fn(i64) -> String) -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let end = now + LIFE.as_secs() as i64;
    let expiration = DateTime::from_secs(end).fmt(Format::DateTime).unwrap();
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
         <SessionToken>token</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    );
    (head(&date(now), &body), body)
}

fn head(date: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\n{date}Content-Type: text/xml\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )
}

fn right_date(now: i64) -> String {
    format!("Date: {}\r\n", DateTime::from_secs(now).fmt(Format::HttpDate).unwrap())
}

fn read_request(stream: &mut impl Read) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    for line in reader.by_ref().lines().map(Result::unwrap) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}

/// Answers, and halts once in it: says so, and goes on when it is told to.
fn answer(
    stream: &mut impl Write,
    (head, body): (String, String),
    halt: Halt,
    report: &mut Report,
    gate: &mut UnixStream,
) {
    let at = match halt {
        Halt::BeforeTheHeaders => 0,
        Halt::InTheBody => head.len() + body.len() / 2,
    };
    let all = head + &body;
    stream.write_all(&all.as_bytes()[..at]).unwrap();
    stream.flush().unwrap();
    report.say(".");
    gate.read_exact(&mut [0]).unwrap();
    stream.write_all(&all.as_bytes()[at..]).unwrap();
    stream.flush().unwrap();
}

/// An STS that answers one request, and halts in that.
fn halting_sts(halt: Halt, date: fn(i64) -> String, mut gate: UnixStream) -> (Child, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = child(move |report| {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        answer(&mut stream, answer_of_sts(date), halt, report, &mut gate);
    });
    (server, url)
}

/// What is left of the set of `source`, whose answer is halted for [`PAUSE`], by a clock that is wrong by
/// `skew` seconds. `halts` says when it does.
fn left_of(
    source: impl Source,
    halts: &mut Child,
    mut go: UnixStream,
    skew: i64,
) -> Option<Duration> {
    let clock = ManualClock::new().unwrap();
    clock.step_wall(-skew);
    let builder = SharedSession::builder(name("halt")).source(source).clock(&clock);
    let session = builder.wait_timeout(support::LIMIT).create().unwrap();
    let worker = child(|report| {
        if let Err(error) = session.credentials() {
            assert!(error.to_string().contains("it has expired already"), "{error}");
            report.say("!");
        }
    });
    halts.hear();
    clock.advance(PAUSE);
    go.write_all(b".").unwrap();
    worker.finish().is_empty().then(|| session.status().unwrap().expires_in())
}

fn left_of_a_role(halt: Halt, date: fn(i64) -> String, skew: i64) -> Option<Duration> {
    let (go, gate) = UnixStream::pair().unwrap();
    let (mut sts, url) = halting_sts(halt, date, gate);
    let source = AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .region("us-east-1")
        .endpoint_url(url)
        .operation_timeout(support::LIMIT)
        .credentials_provider("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "base")
        });
    left_of(source, &mut sts, go, skew)
}

fn left_of_a_halted_one(halt: Halt, skew: i64) -> Duration {
    left_of_a_role(halt, right_date, skew).unwrap()
}

fn a_date_that_cannot_be_is_not_believed() {
    let dates: [fn(i64) -> String; 4] = [
        |_| String::new(),
        |_| "Date: yesterday\r\n".into(),
        |_| "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".into(),
        // A week before its set ends: no set of STS lives so long.
        |now| right_date(now - 7 * 86_400),
    ];
    for date in dates {
        for halt in [Halt::BeforeTheHeaders, Halt::InTheBody] {
            assert_left(left_of_a_role(halt, date, 0).unwrap(), LIFE - PAUSE);
        }
    }
    // One that says that its own set has expired is believed, since nobody would serve that.
    let future = |_| "Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n".into();
    assert_eq!(left_of_a_role(Halt::InTheBody, future, 0), None);
}

fn a_devices_slow_body_is_taken_off() {
    let authority = iot::Authority::new();
    for skew in [0, -300, 300] {
        for halt in [Halt::BeforeTheHeaders, Halt::InTheBody] {
            let (go, mut gate) = UnixStream::pair().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = listener.local_addr().unwrap().to_string();
            let config = Arc::new(authority.server());
            let mut server = child(|report| {
                let (stream, _) = listener.accept().unwrap();
                let session = ServerConnection::new(config).unwrap();
                let mut stream = StreamOwned::new(session, stream);
                read_request(&mut stream);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
                let end = DateTime::from_secs(now + LIFE.as_secs() as i64);
                let body = format!(
                    r#"{{"credentials":{{"accessKeyId":"ASIA1","secretAccessKey":"secret",
                    "sessionToken":"token","expiration":"{}"}}}}"#,
                    end.fmt(Format::DateTime).unwrap()
                );
                let head = head(&right_date(now), &body);
                answer(&mut stream, (head, body), halt, report, &mut gate);
            });
            let device = authority.device(iot::Key::Ec);
            let (certificate, key) = (Pem::text(device.certificate), Pem::text(device.key));
            let source = IotCore::new(endpoint, "app", certificate, key)
                .ca(Pem::text(authority.certificate()))
                .timeout(support::LIMIT);
            let left = left_of(source, &mut server, go, skew).unwrap();
            assert_left(left, LIFE - PAUSE);
        }
    }
}

/// A source of the user's, which reads the server's date, and then takes its time.
#[derive(Debug)]
struct Late(UnixStream, Mutex<UnixStream>);

impl Source for Late {
    fn describe(&self) -> String {
        "late".into()
    }

    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    fn timeout(&self) -> Duration {
        support::LIMIT
    }

    fn fetch(&self) -> shmcreds::Fetching<'_> {
        Box::pin(async {
            let date = SystemTime::now();
            (&self.0).write_all(b".").unwrap();
            self.1.lock().unwrap().read_exact(&mut [0]).unwrap();
            let set = Credentials::new("ASIA1", "secret", None, Some(date + LIFE), "late");
            Ok(shmcreds::Fetched::new(set).server_time(Some(date)))
        })
    }
}

fn a_date_that_is_given_late_is_taken_off() {
    for skew in [0, -300, 300] {
        let (go, gate) = UnixStream::pair().unwrap();
        let (says, mut hears) = UnixStream::pair().unwrap();
        // It only passes on that the source halts.
        let mut halts = child(|report| {
            hears.read_exact(&mut [0]).unwrap();
            report.say(".");
        });
        let left = left_of(Late(says, Mutex::new(gate)), &mut halts, go, skew).unwrap();
        assert_left(left, LIFE - PAUSE);
    }
}

fn a_slow_body_is_taken_off() {
    for skew in [0, -300, 300] {
        assert_left(left_of_a_halted_one(Halt::InTheBody, skew), LIFE - PAUSE);
    }
}

fn an_answer_that_waits_is_taken_off() {
    for skew in [0, -300, 300] {
        assert_left(left_of_a_halted_one(Halt::BeforeTheHeaders, skew), LIFE - PAUSE);
    }
}
