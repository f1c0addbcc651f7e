//! What a process's memory gives away: the parts of it that a core dump would hold.
#![allow(unsafe_code)]

#[path = "support/memory.rs"]
mod memory;
mod support;

use std::{
    fs,
    io::{Read, pipe},
    time::Duration,
};

use aws_config::Region;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::presigning::PresigningConfig;
use memory::masked;
use shmcreds::{Refresh, SharedSession, testing::LocalSts};
use support::{child, instant, name};
use tokio::runtime::Builder;
use zeroize::Zeroize;

fn main() {
    support::run_forking(&[
        ("a_dump_of_a_worker_holds_no_secret", a_dump_of_a_worker_holds_no_secret),
        (
            "a_dump_of_an_eager_sessions_worker_holds_none",
            a_dump_of_an_eager_sessions_worker_holds_none,
        ),
        (
            "a_dump_of_a_sealed_sessions_worker_holds_none",
            a_dump_of_a_sealed_sessions_worker_holds_none,
        ),
        ("handles_that_come_and_go_leave_nothing", handles_that_come_and_go),
        ("a_first_read_writes_to_few_pages_of_the_stack", a_first_read_writes_to_few_pages),
    ]);
}

/// In a process that keeps one handle and attaches with settings of its own again and again.
fn handles_that_come_and_go() {
    let name = name("cycles");
    child(|_| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        let attach = |cycles: u32| {
            for _ in 0..cycles {
                let builder = SharedSession::builder(&name).wait_timeout(Duration::from_secs(1));
                drop(builder.attach().unwrap());
            }
        };
        attach(1000);
        let before = heap_bytes();
        attach(50_000);
        let grown = heap_bytes().saturating_sub(before);
        // An entry of a list has 50 bytes at least; the allocator's own ups and downs are far below.
        assert!(grown < 256 << 10, "{grown} bytes are left of 50,000 handles");
        drop(session);
    })
    .finish();
}

/// The pages of the stack that this process has written to, and shares with no other one, in KiB.
#[inline(never)]
fn own_stack() -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let stack = smaps.split_once("[stack]").unwrap().1;
    let written = stack.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    written.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A forked worker gets a copy of each of them. In a debug build they were 68 KiB when each read had room for the longest
/// token there.
fn a_first_read_writes_to_few_pages() {
    let session = SharedSession::builder(name("pages")).source(instant()).create().unwrap();
    session.credentials().unwrap();
    let again = SharedSession::attach(session.name()).unwrap();
    child(|_| {
        // Its own pages, once.
        own_stack();
        let before = own_stack();
        let set = again.credentials().unwrap();
        let written = own_stack() - before;
        support::assert_whole(&set);
        println!("a first read writes to {written} KiB of the stack");
        assert!(written <= 32, "{written} KiB");
    })
    .finish();
}

/// What the program has taken from its allocator and not given back.
fn heap_bytes() -> usize {
    // SAFETY: it reads the allocator's statistics.
    unsafe { nix::libc::mallinfo2() }.uordblks
}

/// The mappings that go into a core dump: readable ones without `MADV_DONTDUMP`. Those of files that nobody
/// has written to hold nothing that was not in the file.
fn dumped() -> Vec<(u64, u64)> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut ranges, mut written) = (Vec::new(), false);
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap();
        if let Some(range) = memory::range(first) {
            ranges.push(range);
        } else if let Some(anonymous) = line.strip_prefix("Anonymous:") {
            written = anonymous.trim() != "0 kB";
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag| flags.split(' ').any(|found| found == flag);
            if has("dd") || has("io") || !has("rd") || !(written || has("sh")) {
                ranges.pop();
            }
        }
    }
    ranges
}

/// Whether a dump of this process would hold the secret.
fn is_dumped(masked: &[u8]) -> bool {
    memory::is_in(dumped(), masked)
}

/// A worker reads in every way, sends and signs, and holds on to what it has.
fn read_and_sign(session: &SharedSession, sts: &LocalSts) {
    let mut reader = session.reader();
    let read = session.credentials().unwrap();
    let borrowed = reader.credentials().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let provided = runtime.block_on(session.provide_credentials()).unwrap();
    for set in [borrowed, &provided] {
        assert_eq!(set.secret_access_key(), read.secret_access_key());
    }
    let secret = masked(read.secret_access_key());
    let token = masked(read.session_token().unwrap());
    assert!(!is_dumped(&secret), "the secret access key");
    assert!(!is_dumped(&token), "the session token");

    let url = runtime.block_on(sent_and_presigned(session, sts));
    assert!(url.contains(read.access_key_id()));
    drop(runtime);
    // The token is in the request, and so where the SDK leaves that.
    assert!(!is_dumped(&secret), "the secret access key, after signing");

    // What is in a dump, the search finds: here, copies on pages of their own.
    let mut copies = String::with_capacity(1 << 20);
    copies.extend([read.secret_access_key(), read.session_token().unwrap()]);
    assert!(is_dumped(&secret) && is_dumped(&token));
    copies.zeroize();
    assert!(!is_dumped(&secret));
}

async fn sent_and_presigned(session: &SharedSession, sts: &LocalSts) -> String {
    let config = session.sdk_config().await.into_builder().region(Region::new("eu-north-1"));
    let client = aws_sdk_s3::Client::new(&config.endpoint_url(sts.url()).build());
    let refused = client.list_buckets().send().await.unwrap_err();
    assert!(refused.raw_response().is_some(), "sent and answered, by a server that is none of S3");
    let soon = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let request = client.get_object().bucket("bucket").key("key").presigned(soon).await;
    request.unwrap().uri().to_owned()
}

/// Of a set that another process has fetched.
fn a_dump_of_a_worker_holds_no_secret() {
    let (name, sts) = (name("dump"), LocalSts::fork().unwrap());
    let (mut end, hold) = pipe().unwrap();
    let mut hold = Some(hold);
    let mut server = child(|report| {
        drop(hold.take());
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        session.credentials().unwrap();
        report.say(".");
        end.read_exact(&mut [0]).unwrap_err();
    });
    server.hear();
    child(|_| read_and_sign(&SharedSession::attach(&name).unwrap(), &sts)).finish();
    drop(hold);
    server.finish();
}

fn a_dump_of_an_eager_sessions_worker_holds_none() {
    let sts = LocalSts::fork().unwrap();
    let builder = SharedSession::builder(name("dump-eager")).source(instant());
    let session = builder.refresh(Refresh::Eager).create().unwrap();
    child(|_| read_and_sign(&session, &sts)).finish();
    child(|_| read_and_sign(&SharedSession::attach(session.name()).unwrap(), &sts)).finish();
    // A later set, which the worker decodes itself.
    child(|_| {
        session.refresh().unwrap();
        read_and_sign(&session, &sts);
    })
    .finish();
    read_and_sign(&session, &sts);
}

fn a_dump_of_a_sealed_sessions_worker_holds_none() {
    let sts = LocalSts::fork().unwrap();
    let builder = SharedSession::builder(name("dump-sealed")).source(instant());
    let session = builder.refresh(Refresh::Eager).sealed().create().unwrap();
    child(|_| {
        session.refresh().unwrap();
        read_and_sign(&SharedSession::attach(session.name()).unwrap(), &sts);
    })
    .finish();
}
