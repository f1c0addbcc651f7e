//! How long a set lives is decided by its issuer's clock; what passes until it is published is taken off.

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_smithy_types::{DateTime, date_time::Format};
use nix::sys::signal::Signal;
use shmcreds::{
    ErrorKind, SharedSession,
    testing::{self, LocalSts, ManualClock, Settings, Stage},
};
use support::{Child, child, name, role};

fn main() {
    support::run_forking(&[
        ("a_pause_before_publication_is_taken_off", a_pause_before_publication_is_taken_off),
        ("a_slow_body_is_taken_off", a_slow_body_is_taken_off),
        ("an_answer_that_waits_to_be_read_is_taken_off", an_answer_that_waits_is_taken_off),
        ("a_suspend_of_hours_leaves_no_set", a_suspend_of_hours_leaves_no_set),
        ("a_wall_clock_that_steps_changes_nothing", a_wall_clock_that_steps_changes_nothing),
        ("a_wrong_wall_clock_is_corrected", a_wrong_wall_clock_is_corrected),
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
        testing::signal_at(Stage::Answered, Signal::SIGSTOP as i32);
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

/// An STS that halts once in its answer: it says so, and goes on when it is told to.
fn halting_sts(halt: Halt, mut gate: UnixStream) -> (Child, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = child(move |report| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let date = DateTime::from_secs(now).fmt(Format::HttpDate).unwrap();
        let end = now + LIFE.as_secs() as i64;
        let expiration = DateTime::from_secs(end).fmt(Format::DateTime).unwrap();
        let body = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
             <Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
             <SessionToken>token</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>"
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: text/xml\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let answer = head.clone() + &body;
        let at = match halt {
            Halt::BeforeTheHeaders => 0,
            Halt::InTheBody => head.len() + body.len() / 2,
        };
        stream.write_all(&answer.as_bytes()[..at]).unwrap();
        report.say(".");
        gate.read_exact(&mut [0]).unwrap();
        stream.write_all(&answer.as_bytes()[at..]).unwrap();
    });
    (server, url)
}

/// What is left of a set whose answer was halted for [`PAUSE`], by a clock that is wrong by `skew` seconds.
fn left_of_a_halted_one(halt: Halt, skew: i64) -> Duration {
    let (mut go, gate) = UnixStream::pair().unwrap();
    let (mut sts, url) = halting_sts(halt, gate);
    let clock = ManualClock::new().unwrap();
    clock.step_wall(-skew);
    let source = shmcreds::AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .region("us-east-1")
        .endpoint_url(url)
        .operation_timeout(support::LIMIT)
        .credentials_provider("base", || async {
            aws_credential_types::Credentials::new(
                "AKIAIOSFODNN7EXAMPLE",
                "any",
                None,
                None,
                "base",
            )
        });
    let builder = SharedSession::builder(name("halt")).source(source).clock(&clock);
    let session = builder.deadline(support::LIMIT).create().unwrap();
    let worker = child(|_| drop(session.credentials().unwrap()));
    sts.hear();
    clock.advance(PAUSE);
    go.write_all(b".").unwrap();
    worker.finish();
    session.status().unwrap().expires_in()
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
