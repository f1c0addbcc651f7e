//! A test binary leaves no session behind: it looks at its end, also when all tests have passed.

use std::{
    collections::BTreeSet,
    process,
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

/// Refreshers and keepers remove the names of their sessions themselves, soon after the last user.
const LIMIT: Duration = Duration::from_secs(120);

/// The process of the test binary, and the files that were there before it.
struct Binary {
    pid: u32,
    before: BTreeSet<String>,
}

static BINARY: OnceLock<Binary> = OnceLock::new();

/// The pid of the test binary, also in its forked children: all names of its sessions have it. From the first call on,
/// the end of the binary is a failure if one of these sessions is left.
pub fn binary() -> u32 {
    let binary = BINARY.get_or_init(|| {
        // SAFETY: `look` is a function of this program, which stays loaded.
        assert_eq!(unsafe { nix::libc::atexit(look) }, 0, "no handler for the end of the binary");
        Binary { pid: process::id(), before: sessions(process::id()) }
    });
    binary.pid
}

/// The files of sessions that the binary with this pid has named.
fn sessions(pid: u32) -> BTreeSet<String> {
    let entries = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_own = |file: &String| file.contains("shmcreds-") && file.contains(&format!("-{pid}-"));
    files.filter(is_own).collect()
}

/// Runs when the process exits.
extern "C" fn look() {
    let Some(Binary { pid, before }) = BINARY.get() else { return };
    // A forked child may exit, too.
    if *pid != process::id() {
        return;
    }
    let end = Instant::now() + LIMIT;
    loop {
        let left = &sessions(*pid) - before;
        if left.is_empty() {
            return;
        }
        if Instant::now() > end {
            eprintln!("the tests have left sessions in /dev/shm: {left:?}");
            // SAFETY: ends the process at once, with the exit code of failed tests.
            unsafe { nix::libc::_exit(101) }
        }
        sleep(Duration::from_millis(5));
    }
}
