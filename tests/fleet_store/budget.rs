//! The shared budget.

use std::{collections::BTreeSet, fs, time::Duration};

use shmcreds::{ErrorKind, Fleet, FleetKeys, FleetStoreState, ManualSource, SharedSession};

use crate::{
    server::Server,
    support::{child, instant, name, until, until_alone},
};

/// One call in 100 s: the first host gets a permit, and no other host does while the test runs.
pub const RARE: f64 = 0.01;

pub fn fleet(server: &Server) -> Fleet {
    // Enough for an honest answer, however busy the machine.
    Fleet::redis(server.url()).answer_limit(Duration::from_secs(10))
}

/// What a session of a fleet says in a process of its own.
pub fn host(fleet: Fleet, work: impl FnOnce(&SharedSession) -> String) -> String {
    child(|report| {
        let builder = SharedSession::builder(name("host")).source(instant()).fleet(fleet);
        report.say(work(&builder.create().unwrap()));
    })
    .finish()
}

/// `set`, or the kind of the error, the code and the text.
pub fn outcome(session: &SharedSession) -> String {
    match session.credentials() {
        Ok(_) => "set".into(),
        Err(error) => {
            let status = session.status().unwrap();
            let code =
                status.last_failure().and_then(|last| last.failure().code().map(str::to_owned));
            format!("{:?} {code:?} {:?}: {error}", error.kind(), error.retry_after())
        }
    }
}

pub fn hosts_share_a_budget() {
    let server = Server::start();
    let scarce = || fleet(&server).budget("123456789012/eu-central-1", RARE);
    assert_eq!(host(scarce(), outcome), "set");
    let refused = host(scarce(), |session| {
        let outcome = outcome(session);
        let status = session.status().unwrap();
        let fleet = status.fleet().unwrap();
        assert_eq!(fleet.store, FleetStoreState::Answers);
        assert_eq!((fleet.permits, fleet.refused, fleet.local_share), (0, 1, 0));
        assert_eq!(status.source_calls(), 0, "the source was not asked");
        outcome
    });
    assert!(refused.starts_with("SourceThrottled Some(\"FleetBudget\") Some("), "{refused}");
    assert!(refused.contains("the budget of the fleet is used up"), "{refused}");
    // Another Region has a budget of its own.
    assert_eq!(host(scarce().budget("123456789012/eu-west-1", RARE), outcome), "set");
    // A host that has a set keeps it: a refused refresh takes nothing away.
    let kept = host(fleet(&server).budget("kept", RARE), |session| {
        let first = session.credentials().unwrap();
        let refresh = session.refresh().unwrap_err();
        assert_eq!(refresh.kind(), ErrorKind::SourceThrottled, "{refresh}");
        assert_eq!(session.credentials().unwrap().access_key_id(), first.access_key_id());
        session.status().unwrap().to_string()
    });
    assert!(kept.contains("; fleet: its store answers ("), "{kept}");
    assert!(kept.ends_with(", permits 1, refused 1, by the local share 0"), "{kept}");
}

/// Asks the script itself: what the hosts wait, one after the other.
pub fn permits_come_at_the_rate() {
    let server = Server::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fleet/scripts/permit.lua");
    // 4 calls in 10 s: 4 at once, the others 2.5 s apart, and a wait of 20 s at most.
    let permit =
        || server.run(&["--eval", script, "budget", ",", "2500000", "7500000", "20000000"]);
    let answers: Vec<(u64, u64)> = (0..16)
        .map(|_| {
            let answer = permit();
            let numbers: Vec<u64> = answer.lines().map(|line| line.parse().unwrap()).collect();
            (numbers[0], numbers[1])
        })
        .collect();
    assert!(answers[..4].iter().all(|&answer| answer == (1, 0)), "{answers:?}");
    let granted: Vec<u64> = answers.iter().filter(|a| a.0 == 1).map(|a| a.1).collect();
    for pair in granted[3..].windows(2) {
        assert!(pair[1] <= pair[0] + 2_500_000, "not faster than the budget: {answers:?}");
    }
    // In no time, 12 permits are granted: 4, and 8 within 20 s. Each 2.5 s that the test takes add one.
    let refused = answers.iter().filter(|answer| answer.0 == 0).count();
    assert!(granted.iter().all(|&wait| wait <= 20_000_000), "{answers:?}");
    assert!(refused > 0 && answers.iter().all(|a| a.0 == 1 || a.1 > 20_000_000), "{answers:?}");
}

pub fn a_wrong_value_is_replaced() {
    let server = Server::start();
    let scarce = || fleet(&server).budget("b", RARE);
    for value in ["nan", "-inf", "inf", "1e308", "-5", "x", ""] {
        server.say(&["SET", "shmcreds:{b}:budget", value], "OK");
        assert_eq!(host(scarce(), outcome), "set", "{value}");
        let now = server.run(&["GET", "shmcreds:{b}:budget"]);
        assert!(now.parse::<u64>().is_ok(), "{value} became {now}");
    }
    // A value of another type: the script fails, and the host uses its own share.
    server.say(&["DEL", "shmcreds:{b}:budget"], "1");
    server.say(&["LPUSH", "shmcreds:{b}:budget", "1"], "1");
    let status = host(scarce(), |session| {
        session.credentials().unwrap();
        format!("{:?}", session.status().unwrap().fleet().unwrap())
    });
    assert!(status.contains("store: Wrong") && status.contains("local_share: 1"), "{status}");
}

pub fn nothing_is_alive_after_a_call() {
    let server = Server::start();
    let said = host(fleet(&server), |session| {
        // With the first runtime of a process tokio makes a socket pair, which stays.
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let before = descriptors();
        session.credentials().unwrap();
        until_alone();
        assert_eq!(descriptors(), before);
        // So the process may fork, and the child is a host, too.
        let key = child(|report| report.say(session.refresh().unwrap().access_key_id())).finish();
        assert_eq!(session.credentials().unwrap().access_key_id(), key);
        format!("{}", session.status().unwrap().fleet().unwrap().permits)
    });
    assert_eq!(said, "2");
    // The server sees no connection that is left, but the one that asks.
    until("all connections are closed", || server.run(&["CLIENT", "LIST"]).lines().count() == 1);
}

/// What the open descriptors lead to.
fn descriptors() -> BTreeSet<String> {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    targets.map(|target| target.display().to_string()).filter(|t| !t.contains("/fd")).collect()
}

pub fn wrong_settings() {
    let redis = Fleet::redis;
    let good = "redis://user:hunter2secret@127.0.0.1:1";
    let keys = || FleetKeys::variable("SHMCREDS_TEST_NO_SUCH_KEY");
    for (fleet, problem) in [
        (redis("hunter2secret"), "the URL has no known scheme"),
        (redis("http://:hunter2secret@host"), "the URL has no known scheme"),
        (redis("redis://user:hunter2secret@:x/"), "the URL cannot be read"),
        (redis("rediss://:hunter2secret@host#insecure"), "the URL has a fragment"),
        (redis(good).ca_file("/ca.pem"), "a CA file is given, but the URL is without TLS"),
        (redis("redis+sentinel://:hunter2secret@a,b"), "the URL names no service"),
        (redis(good).sentinel_password_file("/no"), "a password of the Sentinels is given, but"),
        (redis(good).password_file("/no/such/file"), "the password file /no/such/file: "),
        (redis(good).budget("a b", 1.0), "the name of the budget is \"a b\""),
        (redis(good).budget("a{b", 1.0), "the name of the budget is \"a{b\""),
        (redis(good).budget("a", f64::NAN), "the budget is NaN calls a second"),
        (redis(good).budget("a", -1.0), "the budget is -1 calls a second"),
        (redis(good).hosts(0), "hosts is 0"),
        (redis(good).answer_limit(Duration::ZERO), "answer_limit is 0ns"),
        (redis(good).share_set("", keys()), "the name of the shared set is \"\""),
        (
            redis(good).share_set("web", keys()),
            "share_set: the key variable SHMCREDS_TEST_NO_SUCH_KEY is not set",
        ),
    ] {
        let builder = SharedSession::builder(name("wrong")).source(instant()).fleet(fleet);
        let shown = format!("{builder:?}");
        let error = builder.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(&format!("fleet: {problem}")), "{problem}: {error}");
        assert!(
            !error.to_string().contains("hunter2") && !shown.contains("hunter2"),
            "{error} {shown}"
        );
    }
    let manual = SharedSession::builder(name("wrong"))
        .source(ManualSource::new("by hand"))
        .fleet(redis(good));
    assert!(manual.create().unwrap_err().to_string().contains("fleet: only the program"));
}

/// Pipes, and files without an end, in place of a password, an authority or keys: nothing waits for a writer.
pub fn files_that_are_no_files() {
    let server = Server::start();
    let pipe = server.folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let zero = std::path::Path::new("/dev/zero");
    for (file, problem) in [(pipe.as_path(), "it is a pipe"), (zero, "it has more than")] {
        let fleets = [
            fleet(&server).password_file(file),
            fleet(&server).share_set("web", FleetKeys::file(file)),
        ];
        for fleet in fleets {
            let builder = SharedSession::builder(name("wrong")).source(instant()).fleet(fleet);
            let error = builder.create().unwrap_err().to_string();
            let is_private = error.contains("it must be 0640 or stricter");
            assert!(error.contains(problem) || is_private && file == zero, "{error}");
        }
        // An authority is read when the store is asked.
        let status = host(Fleet::redis("rediss://127.0.0.1:1").hosts(1).ca_file(file), |session| {
            session.credentials().unwrap();
            session.status().unwrap().to_string()
        });
        assert!(status.contains("its store unreachable"), "{status}");
    }
    // The password becomes a pipe while the session is used.
    let file = server.folder.path().join("password");
    fs::write(&file, "").unwrap();
    let status = host(fleet(&server).hosts(1).password_file(&file), |session| {
        fs::rename(&pipe, &file).unwrap();
        session.credentials().unwrap();
        session.status().unwrap().to_string()
    });
    assert!(status.contains("its store unreachable"), "{status}");
}

pub fn a_password_is_never_shown() {
    let server = Server::with(&["--requirepass", "hunter2secret"]);
    let file = server.folder.path().join("password");
    fs::write(&file, "hunter2secret\n").unwrap();
    let status = |fleet: Fleet| {
        host(fleet, |session| {
            session.credentials().unwrap();
            let status = session.status().unwrap();
            format!("{status} {status:?} {session:?}")
        })
    };
    let right = status(fleet(&server).password_file(&file));
    assert!(right.contains("its store answers") && right.contains("permits 1"), "{right}");
    let in_url = format!("{}?pass=hunter2secret", server.url());
    let right = status(Fleet::redis(in_url).answer_limit(Duration::from_secs(10)));
    assert!(right.contains("its store answers") && !right.contains("hunter2"), "{right}");
    for password in ["hunter2wrong", ""] {
        fs::write(&file, password).unwrap();
        let wrong = status(fleet(&server).password_file(&file));
        assert!(wrong.contains("by the local share 1") && !wrong.contains("hunter2"), "{wrong}");
    }
}
