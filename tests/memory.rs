//! What a process's memory gives away: the parts of it that a core dump would hold.

mod support;

use std::{
    fs::{self, File},
    io::{Read, pipe},
    os::unix::fs::FileExt,
};

use aws_credential_types::Credentials;
use shmcreds::SharedSession;
use support::{child, instant, name};

fn main() {
    support::run_forking(&[(
        "a_dump_of_a_worker_holds_no_secret",
        a_dump_of_a_worker_holds_no_secret,
    )]);
}

/// Hides a secret from a search for it.
const MASK: u8 = 0x5a;

fn masked(secret: &str) -> Vec<u8> {
    secret.bytes().map(|byte| byte ^ MASK).collect()
}

/// The mappings that go into a core dump: readable ones without `MADV_DONTDUMP`.
fn dumped() -> Vec<(u64, u64)> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut ranges = Vec::new();
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap();
        if let Some((start, end)) = first.split_once('-')
            && let (Ok(start), Ok(end)) =
                (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        {
            ranges.push((start, end));
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag| flags.split(' ').any(|found| found == flag);
            if has("dd") || has("io") || !has("rd") {
                ranges.pop();
            }
        }
    }
    ranges
}

/// Whether a dump of this process would hold the secret.
fn is_dumped(masked: &[u8]) -> bool {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut chunk = vec![0; 1 << 16];
    dumped().into_iter().any(|(start, end)| {
        let mut at = start;
        while at < end {
            let wanted = chunk.len().min((end - at) as usize);
            // Of what the kernel itself cannot read there is no dump either.
            let read = match memory.read_at(&mut chunk[..wanted], at) {
                Ok(read) => read,
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{start:x}-{end:x}");
                    return false;
                }
            };
            let windows = chunk[..read].windows(masked.len());
            let mut found = windows.filter(|w| w.iter().zip(masked).all(|(a, b)| a ^ MASK == *b));
            // What has been read is a copy, too: it is looked through here and overwritten below.
            if found.next().is_some() {
                chunk.fill(0);
                return true;
            }
            chunk[..read].fill(0);
            // Overlapping, so that no secret falls between two chunks.
            at += if at + (read as u64) < end { (read - masked.len()) as u64 } else { read as u64 };
        }
        false
    })
}

fn a_dump_of_a_worker_holds_no_secret() {
    let name = name("dump");
    // The set is fetched by a process that the worker was not forked from.
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
    child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        let credentials: Credentials = session.credentials().unwrap();
        let secret = masked(credentials.secret_access_key());
        let token = masked(credentials.session_token().unwrap());
        // Whoever holds credentials has them on the heap: the search finds what is there.
        assert!(is_dumped(&secret) && is_dumped(&token));

        drop((credentials, session));
        let session = SharedSession::attach(&name).unwrap();
        let status = session.status().unwrap();
        assert_eq!(status.generation(), 1);
        // The set is in this process's reach, in the segment, and nowhere else.
        assert!(!is_dumped(&secret), "the secret access key");
        assert!(!is_dumped(&token), "the session token");
    })
    .finish();
    drop(hold);
    server.finish();
}
