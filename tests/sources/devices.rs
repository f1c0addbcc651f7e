//! Devices: an X.509 certificate, and MFA codes.

use std::{collections::BTreeSet, fs, net::TcpListener, path::Path, time::Duration};

use shmcreds::{
    AssumeRole, ErrorKind, IotCore, Pem, SharedSession,
    testing::{Fault, LocalSts, Times},
};

use crate::{
    host::all_different,
    iot, of,
    support::{self, Child, assumed, child, name, role},
    three_cycles,
};

pub const CODE: &str = "271828";

pub fn a_device_with_a_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|f| folder.path().join(f));
    let authority = iot::Authority::new();
    fs::write(&ca, authority.certificate()).unwrap();
    let _server = child(|_| iot::serve(listener, &authority, "sensor-1"));
    let source = || {
        of(IotCore::new(&endpoint, "app", Pem::file(&certificate), Pem::file(&key))
            .thing_name("sensor-1")
            .ca(Pem::file(&ca)))
    };
    // The device has another certificate and key each time.
    let renew = |_| {
        let device = authority.device(iot::Key::Ec);
        fs::write(&certificate, device.certificate).unwrap();
        fs::write(&key, device.key).unwrap();
    };
    renew(0);
    let keys = three_cycles(&[], source, renew);
    assert_eq!(keys, ["ASIA1", "ASIA2", "ASIA3"]);
}

pub fn a_role_by_a_role_with_a_device() {
    let sts = LocalSts::fork().unwrap();
    let hub = || role(&sts).mfa_command("123456789", ["/bin/echo", "123456"]);
    let app = || {
        let app = AssumeRole::new("arn:aws:iam::210987654321:role/app");
        of(app.region("us-east-1").endpoint_url(sts.url()).base_source(hub()))
    };
    let keys = three_cycles(&[], app, |_| {});
    assert!(all_different(&keys), "{keys:?}");
    let calls = sts.calls().unwrap();
    assert_eq!(calls.len(), 6, "two for each set");
    let codes = calls.iter().filter(|call| call.parameters.contains_key("TokenCode")).count();
    assert_eq!(codes, 3);
}

const SERIAL: &str = "arn:aws:iam::123456789012:mfa/alice";

/// A role whose device is a shell script, which leaves its pid in `asked`, a line each time; `$0` for it.
fn with_device(sts: &LocalSts, asked: &Path, script: &str) -> AssumeRole {
    let script = format!("echo $$ >> \"$0\"; {script}");
    role(sts).mfa_command(SERIAL, ["/bin/sh", "-c", &script, asked.to_str().unwrap()])
}

/// Gone, or waiting for a parent to notice.
fn is_dead(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']) || stat.is_empty()
}

pub fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

const HANGS: &str = "echo 271828; sleep 1000 & echo $! >> \"$0\"; wait";

/// Each through a whole session, in a worker.
pub fn a_device_in_every_mood() {
    let wrong = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
    let wrong = Fault::error(403, "AccessDenied", wrong);
    use ErrorKind::{SourceTerminal, SourceTransient};
    type Row<'a> = (&'a str, Option<&'a Fault>, Option<(ErrorKind, &'a str)>, usize);
    let rows: [Row<'_>; 10] = [
        ("echo 271828", None, None, 1),
        ("while test -e \"$0\"; do sleep 0.05; done & echo 271828", None, None, 1),
        ("echo old 111111, new 271828.", None, None, 1),
        ("echo 271828 >&2", None, Some((SourceTransient, "no six-digit number")), 0),
        ("true", None, Some((SourceTransient, "no six-digit number")), 0),
        ("echo 2718281", None, Some((SourceTransient, "no six-digit number")), 0),
        ("echo 271828; exit 3", None, Some((SourceTransient, "exit status: 3")), 0),
        ("echo 271828; kill -9 $$", None, Some((SourceTransient, "signal: 9")), 0),
        (HANGS, None, Some((SourceTransient, "no answer within 1s")), 0),
        ("echo 271828", Some(&wrong), Some((SourceTerminal, "the MFA code is wrong, too old")), 1),
    ];
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (number, (script, fault, expected, calls)) in rows.into_iter().enumerate() {
        sts.clear_calls().unwrap();
        sts.clear_faults().unwrap();
        if let Some(fault) = fault {
            sts.inject(fault.clone(), Times::UntilCleared).unwrap();
        }
        let asked = folder.path().join(number.to_string());
        let limit = Duration::from_secs(if script == HANGS { 1 } else { 60 });
        let source = with_device(&sts, &asked, script).mfa_timeout(limit);
        let session = SharedSession::builder(name("mood")).source(source).create().unwrap();
        let worker = child(|report| match session.credentials() {
            Ok(_) => report.say("a set"),
            Err(error) => {
                let (kind, text) = expected.unwrap_or_else(|| panic!("{script}: {error}"));
                assert_eq!(error.kind(), kind, "{script}: {error}");
                assert!(error.to_string().contains(text), "{script}: {error}");
                assert!(!format!("{error} {error:?}").contains(CODE), "{script} shows the code");
            }
        });
        assert_eq!(worker.finish(), if expected.is_none() { "a set" } else { "" }, "{script}");
        assert_eq!(assumed(&sts), calls, "{script}");
        let pids = lines(&asked);
        // On a busy machine the one that hangs may not have come to it.
        assert!(pids.len() == 1 || script == HANGS && pids.len() <= 2, "{script}: {pids:?}");
        for pid in pids {
            support::until("the program and what it has started end", || is_dead(&pid));
        }
    }
}

pub fn each_refresh_asks_the_device_once() {
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let source = with_device(&sts, &asked, "echo 271828");
    let session = SharedSession::builder(name("once")).source(source).create().unwrap();
    for cycle in 1..=2 {
        let worker = || child(|report| report.say(session.credentials().unwrap().access_key_id()));
        let workers: Vec<_> = (0..8).map(|_| worker()).collect();
        let keys: BTreeSet<String> = workers.into_iter().map(Child::finish).collect();
        assert_eq!((keys.len(), lines(&asked).len(), assumed(&sts)), (1, cycle, cycle));
        if cycle == 1 {
            child(|_| drop(session.refresh().unwrap())).finish();
        }
    }
}
