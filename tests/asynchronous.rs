//! What async programs call: refresh, the next set, configurations of their own.

mod support;

use std::{path::Path, time::Duration};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use shmcreds::{
    ErrorKind, Provider, SharedSession, SourceError, SourceErrorClass, testing::ManualClock,
};
use support::{assert_whole, instant, instant_set, name, segment};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

fn session(what: &str) -> SharedSession {
    SharedSession::builder(name(what)).source(instant()).create().unwrap()
}

#[tokio::test]
async fn a_refresh_gives_the_next_set() {
    let session = session("refresh-async");
    let first = session.credentials().unwrap();
    let second = session.refresh_async().await.unwrap();
    assert_whole(&second);
    assert_ne!(second.access_key_id(), first.access_key_id());
    assert_eq!(session.status().unwrap().generation(), 2);
}

/// Each answer may be the last use of the session, and the end of the program.
#[test]
fn no_thread_keeps_the_session_after_its_answer() {
    // On one CPU, the thread that is woken often runs before the one that has woken it goes on.
    let (this, mut one) = (Pid::from_raw(0), CpuSet::new());
    let all = sched_getaffinity(this).unwrap();
    let cpu = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap()).unwrap();
    one.set(cpu).unwrap();
    sched_setaffinity(this, &one).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..100 {
        for wait in 0..4 {
            let session = session("answered");
            let path = segment(session.name());
            runtime.block_on(async {
                match wait {
                    0 => drop(session.refresh_async().await.unwrap()),
                    1 => drop(session.credentials_valid_for_async(LONG).await.unwrap()),
                    2 => drop(session.provide_credentials().await.unwrap()),
                    _ => {
                        let (change, set) =
                            tokio::join!(session.changed(), session.refresh_async());
                        change.and(set).unwrap();
                    }
                }
            });
            drop(session);
            assert!(
                !Path::new(&path).exists(),
                "a thread still has the session, after wait {wait}"
            );
        }
    }
}

#[tokio::test]
async fn a_refresh_tells_what_the_source_says() {
    let refuse = || async {
        Err::<aws_credential_types::Credentials, _>(SourceError::new(
            SourceErrorClass::Terminal,
            "no",
        ))
    };
    let source = Provider::from_fn("refused", refuse);
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name("refused")).source(source).clock(&clock);
    let session = builder.create().unwrap();
    let error = session.refresh_async().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceTerminal);
    assert!(!error.is_retryable());
    let next = error.retry_after().expect("the source is left alone for a while");
    assert!(next > Duration::ZERO && next <= Duration::from_secs(5), "{next:?}");
}

#[tokio::test]
async fn a_change_is_told_to_all_who_wait_for_it() {
    let session = session("changed");
    session.credentials().unwrap();
    let waits: Vec<_> = (0..3)
        .map(|_| session.clone())
        .map(|session| tokio::spawn(async move { session.changed().await }))
        .collect();
    tokio::task::yield_now().await;
    assert!(waits.iter().all(|wait| !wait.is_finished()), "nothing has changed");
    let set = session.refresh_async().await.unwrap();
    for wait in waits {
        timeout(LONG, wait).await.expect("the change is seen").unwrap().unwrap();
    }
    assert_eq!(session.credentials().unwrap().access_key_id(), set.access_key_id());
}

/// The set that was given last may be out of date by now.
#[tokio::test]
async fn a_change_that_has_happened_is_told_at_once() {
    let session = session("changed-already");
    session.credentials().unwrap();
    let other = SharedSession::attach(session.name()).unwrap();
    other.refresh_async().await.unwrap();
    timeout(LONG, session.changed()).await.expect("it has changed").unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_thread() {
    let session = session("changed-dropped");
    session.credentials().unwrap();
    assert!(timeout(Duration::from_millis(10), session.changed()).await.is_err());
    let waits = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "shmcreds-change").count()
    };
    let gone = async {
        // Other tests wait in this process, too: theirs end with their sets.
        while waits() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, gone).await.expect("its thread ends");
}

#[tokio::test]
async fn a_loader_of_the_users_keeps_its_settings() {
    let session = session("loader");
    let loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new("eu-north-1"));
    let config = session.sdk_config_from(loader).await;
    assert_eq!(config.region().map(Region::as_ref), Some("eu-north-1"));
    let provider = config.credentials_provider().unwrap();
    let theirs = provider.provide_credentials().await.unwrap();
    let ours = session.credentials_provider().provide_credentials().await.unwrap();
    assert_eq!(theirs.access_key_id(), ours.access_key_id());
    assert_whole(&ours);
    drop(instant_set());
}

#[test]
fn a_status_is_one_line() {
    let session = session("line");
    assert_eq!(session.status().unwrap().to_string(), "empty, generation 0");
    let set = session.credentials().unwrap();
    let line = session.status().unwrap().to_string();
    let tail = &set.access_key_id()[set.access_key_id().len() - 4..];
    assert!(line.starts_with(&format!("fresh, generation 1, key …{tail}, refresh in ")), "{line}");
    assert!(!line.contains(set.secret_access_key()) && !line.contains('\n'), "{line}");
}
