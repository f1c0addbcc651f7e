//! On which thread the call of a role is made that somebody waits for.

use std::{
    hint::black_box,
    io::{self, Write},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use aws_credential_types::provider::ProvideCredentials;
use shmcreds::{CredentialProcess, RoleSession, SharedRoles, testing::LocalSts};

use crate::{
    assert_of, pool,
    support::{child, name, threads, until_alone},
    tenant,
};

/// What the library logs, with the name of the thread that says it.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Those of the whole process.
    fn of_process() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_thread_names(true);
        subscriber.with_ansi(false).with_writer(move || writer.clone()).init();
        lines
    }

    /// The thread that has published since the last call.
    fn publisher(&self) -> String {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let mut lines = text.lines().filter(|line| line.contains("published a new set"));
        let (line, more) =
            (lines.next().unwrap_or_else(|| panic!("nobody has: {text}")), lines.next());
        assert_eq!(more, None);
        // After the time and the level.
        line.split_whitespace().nth(2).unwrap().to_owned()
    }
}

/// A source that no code of the program is part of.
fn ready_made() -> CredentialProcess {
    let set = r#"{"Version":1,"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#;
    CredentialProcess::new(["/bin/echo", set]).timeout(Duration::from_secs(60))
}

/// Runs `work` so many bytes below the address `top` of the stack.
#[inline(never)]
fn deep(top: usize, below: usize, work: &dyn Fn()) {
    let room = black_box([0u8; 4096]);
    match top.saturating_sub(room.as_ptr().addr()) < below {
        true => deep(top, below, work),
        false => work(),
    }
    black_box(&room);
}

/// The caller's own thread, if the call ends before its wait does, and if that thread can run it; else a new one.
pub fn a_call_is_made_on_the_thread_of_its_caller() {
    const NEW: &str = "shmcreds-fetch";
    let (sts, names) = (LocalSts::fork().unwrap(), [name("ready-made"), name("closure")]);
    child(|_| {
        let lines = Lines::of_process();
        let pool_of = |at: usize| pool(&names[at]);
        let patient = Duration::from_secs(200);
        let roles = pool_of(0).base_source(ready_made()).wait_timeout(patient).create().unwrap();
        let of = |roles: &SharedRoles, number| roles.role(tenant(&sts, number)).unwrap();
        let read = |role: RoleSession, number| assert_of(&role.credentials().unwrap(), number);
        read(of(&roles, 1), 1);
        assert_eq!((lines.publisher().as_str(), threads()), ("main", 1));
        // It takes at most 15 s, and that for the base credentials at most 61 s.
        let within = |number, seconds| {
            let set = of(&roles, number).credentials_within(Duration::from_secs(seconds));
            assert_of(&set.unwrap(), number);
            until_alone();
            lines.publisher()
        };
        assert_eq!(within(2, 200), "main");
        assert_eq!(within(3, 70), NEW);
        let long = tenant(&sts, 4).operation_timeout(Duration::from_secs(200));
        read(roles.role(long).unwrap(), 4);
        until_alone();
        assert_eq!(lines.publisher(), NEW);
        // A runtime cannot run inside another one.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { read(of(&roles, 5), 5) });
        assert_eq!(lines.publisher(), NEW);
        // The thread that waits for an async caller is in none.
        let six = of(&roles, 6);
        assert_of(&runtime.block_on(six.provide_credentials()).unwrap(), 6);
        assert_eq!(lines.publisher(), "shmcreds-wait");
        drop(runtime);
        for (used, number, expected) in [(0, 7, "own"), (3 << 20, 8, NEW)] {
            let caller = thread::Builder::new().name("own".into()).stack_size(4 << 20);
            let role = of(&roles, number);
            let work = move || assert_of(&role.credentials().unwrap(), number);
            let caller = caller.spawn(move || deep((&raw const work).addr(), used, &work));
            caller.unwrap().join().unwrap();
            assert_eq!(lines.publisher(), expected);
        }
        // A closure could block the thread.
        let roles = pool_of(1).wait_timeout(patient).create().unwrap();
        read(of(&roles, 9), 9);
        assert_eq!(lines.publisher(), NEW);
        until_alone();
    })
    .finish();
}
