//! The refresher of the pool that `serve --roles` and `exec --roles` keep.

use std::{
    collections::BTreeMap,
    os::unix::fs::FileExt,
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::Signal,
    time::{ClockId, clock_gettime},
    unistd::{Pid, geteuid},
};
use serde_json::Value;
use shmcreds::{
    AssumeRole, ErrorKind, SharedRoles,
    testing::{LocalSts, Settings},
};

use crate::{harness::*, roles::*};

const ALPHA: (&str, &str) = ("alpha", "aa");
const BETA: (&str, &str) = ("beta", "bb");
const GAMMA: (&str, &str) = ("gamma", "cc");

/// Waits until `pid` refreshes the pool.
fn until_refreshed_by(pool: &str, pid: Pid) {
    let pool = SharedRoles::attach(pool).unwrap();
    until("it refreshes the pool", || refresher_of(&pool) == Some(pid));
}

fn refresher_of(pool: &SharedRoles) -> Option<Pid> {
    let status = pool.status().unwrap();
    let one = status.refresher().filter(|one| one.is_alive())?;
    Some(Pid::from_raw(one.pid() as i32))
}

/// How many calls there were for each external id.
fn calls(sts: &LocalSts) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for call in sts.calls().unwrap() {
        *found.entry(call.parameters["ExternalId"].clone()).or_default() += 1;
    }
    found
}

/// The pool notes the last use of a role in minutes since boot. In a time namespace of its own the next minute begins soon.
struct ShortMinute {
    offset: i64,
}

impl ShortMinute {
    fn new(left: i64) -> Self {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().tv_sec();
        ShortMinute { offset: (60 - left - boot).rem_euclid(60) }
    }

    fn minute(&self) -> i64 {
        (clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().tv_sec() + self.offset) / 60
    }

    /// The command in that namespace, in the same process.
    fn command(&self, command: &Command) -> Command {
        wrapped(&format!("exec unshare --time --boottime {} -- \"$@\"", self.offset), command)
    }
}

/// What was used is refreshed before it expires, without a request at that moment. SIGHUP adds a role and removes another one
/// meanwhile.
#[test]
fn what_is_used_is_refreshed_without_a_request() {
    if !geteuid().is_root() {
        return;
    }
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("ahead"), Folder::new("", &[ALPHA, BETA]));
    // Their refresh points are between 6 s and 6.6 s after the calls.
    sts.configure(Settings::new().lifetime(Duration::from_secs(12))).unwrap();
    let time = ShortMinute::new(4);
    let mut running = Running::start(time.command(&serve_roles(&sts, &name, &folder.file())));
    let url = running.line();
    let set = |role: &str| {
        let set = set_of(&url, &format!("/v1/roles/{role}"), &folder.token(role));
        set["AccessKeyId"].as_str().unwrap().to_owned()
    };
    set("alpha");
    set("beta");
    let removed = folder.token("beta");
    folder.write("", &[ALPHA, GAMMA]);
    running.signal(Signal::SIGHUP);
    until("gamma is there", || folder.names() == ["alpha", "gamma"]);
    // Both are used in a later minute than that of the fetch. On a slow machine that may take another minute.
    let both = || ["alpha", "gamma"].map(set);
    let mut before = (time.minute(), both());
    until("they are used in the next minute", || {
        let now = (time.minute(), both());
        let is_used = now.0 > before.0 && now.1 == before.1 && time.minute() == now.0;
        before = now;
        is_used
    });
    let began = calls(&sts);
    until("they are refreshed without a request", || {
        let now = calls(&sts);
        now[ALPHA.1] > began[ALPHA.1] && now[GAMMA.1] > began[GAMMA.1]
    });
    assert_eq!(calls(&sts)[BETA.1], began[BETA.1], "it was removed");
    assert_eq!(ask(&url, "/v1/roles/beta", &removed).0, 403);
    // The new sets are there: STS is not asked for them.
    sts.configure(Settings::new().latency(Duration::from_secs(60))).unwrap();
    until("the sets are there", || {
        let now = ["alpha", "gamma"].map(|role| {
            let (status, set) = ask(&url, &format!("/v1/roles/{role}"), &folder.token(role));
            assert_eq!(status, 200, "no request waits: {set}");
            set["AccessKeyId"].as_str().unwrap().to_owned()
        });
        now.iter().zip(&before.1).all(|(now, before)| now != before)
    });
    drop(running);
    assert!(folder.names().is_empty());
    assert_gone(&name);
}

/// The set of alpha, and a reader that keeps the pool, of a `serve` that was killed while it refreshed.
fn left_by_a_killed_one(sts: &LocalSts, name: &str, folder: &Folder) -> (Value, SharedRoles) {
    let (mut first, url) = served_roles(sts, name, folder);
    until_refreshed_by(name, first.pid());
    let set = set_of(&url, "/v1/roles/alpha", &folder.token("alpha"));
    let reader = SharedRoles::attach(name).unwrap();
    first.signal(Signal::SIGKILL);
    first.wait_for_end();
    (set, reader)
}

/// A killed `serve` is followed by the next one, which refreshes the pool that a reader has kept.
#[test]
fn a_killed_refresher_is_followed() {
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("followed"), Folder::new("", &[ALPHA, BETA]));
    let (set, reader) = left_by_a_killed_one(&sts, &name, &folder);
    assert_eq!(refresher_of(&reader), None);
    let (second, url) = served_roles(&sts, &name, &folder);
    until("the next one follows", || refresher_of(&reader) == Some(second.pid()));
    assert_eq!(set_of(&url, "/v1/roles/alpha", &folder.token("alpha")), set, "the pool goes on");
    set_of(&url, "/v1/roles/beta", &folder.token("beta"));
    assert_eq!(assumed(&sts), 2);
    // One that is told to end resigns.
    second.signal(Signal::SIGTERM);
    assert_eq!(second.wait(), 0);
    assert!(reader.status().unwrap().refresher().is_none());
    drop(reader);
    assert_gone(&name);
}

/// The next one refreshes what a killed one has left, also if no client asks for it.
#[test]
fn what_a_killed_one_has_left_is_refreshed_without_a_request() {
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("left"), Folder::new("", &[ALPHA, BETA]));
    // The refresh point is between 10 s and 11 s after the call.
    sts.configure(Settings::new().lifetime(Duration::from_secs(20))).unwrap();
    let (set, reader) = left_by_a_killed_one(&sts, &name, &folder);
    let (second, url) = served_roles(&sts, &name, &folder);
    until_refreshed_by(&name, second.pid());
    assert_eq!(assumed(&sts), 1);
    // Another process uses the role in a later minute than that of its call. The first page of the file has the requests.
    let uses = std::fs::OpenOptions::new().write(true).open(crate::support::lock(&name)).unwrap();
    until("it is refreshed", || {
        uses.write_all_at(&u64::MAX.to_le_bytes(), 4096).unwrap();
        assumed(&sts) == 2
    });
    until("the new set is there", || {
        let now = set_of(&url, "/v1/roles/alpha", &folder.token("alpha"));
        assert!(is_of(&now, ALPHA.1));
        now != set
    });
    assert_eq!(calls(&sts).get(BETA.1), None, "it had no set");
    drop(reader);
}

/// A call that hangs does not delay the end.
#[test]
fn a_hanging_call_does_not_delay_the_end() {
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("hanging"), Folder::new("", &[ALPHA]));
    // The longest that a pool allows.
    let role = std::fs::read_to_string(folder.file()).unwrap();
    std::fs::write(folder.file(), format!("{role}timeout = 60\n")).unwrap();
    let (running, url) = served_roles(&sts, &name, &folder);
    until_refreshed_by(&name, running.pid());
    sts.configure(Settings::new().latency(Duration::from_secs(600))).unwrap();
    let (status, body) = ask(&url, "/v1/roles/alpha", &folder.token("alpha"));
    assert_eq!((status, &body["code"]), (503, &"NotReady".into()), "{body}");
    until("STS is asked", || assumed(&sts) == 1);
    let began = Instant::now();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    // Without a limit it would wait for the timeout of the call.
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    assert!(folder.names().is_empty());
    assert_gone(&name);
}

/// Where only requests refresh, no process is elected for the pool.
#[test]
fn a_deferred_pool_has_no_refresher() {
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("deferred"), Folder::new("", &[ALPHA]));
    let right = std::fs::read_to_string(folder.file()).unwrap();
    std::fs::write(folder.file(), format!("{right}timeout = 61\n")).unwrap();
    let mut command = serve_roles(&sts, &name, &folder.file());
    command.arg("--deferred");
    let mut running = Running::start(command);
    let url = running.line();
    assert!(is_of(&set_of(&url, "/v1/roles/alpha", &folder.token("alpha")), "aa"));
    let pool = SharedRoles::attach(&name).unwrap();
    assert!(pool.status().unwrap().refresher().is_none());
}

/// A refresher makes the calls of all processes, so it takes no setting that its key of a role does not tell.
#[test]
fn what_a_refresher_cannot_take_is_refused() {
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("untaken"), Folder::new("", &[ALPHA]));
    let right = std::fs::read_to_string(folder.file()).unwrap();
    let with = |line: &str| std::fs::write(folder.file(), format!("{right}{line}\n")).unwrap();
    let refused = [
        ("ca-bundle = \"/hush.pem\"", "role.alpha: ca-bundle must not be set", "AWS_CA_BUNDLE"),
        ("proxy = \"http://u:hush@h\"", "role.alpha: proxy must not be set", "HTTPS_PROXY"),
        ("timeout = 61", "role.alpha: timeout is 61s, must be at most 60s", "--deferred"),
        (
            "[grant.beta]\nallow = \"arn:aws:iam::*:role/beta\"\nproxy = \"http://u:hush@h\"",
            "grant.beta: proxy must not be set",
            "HTTPS_PROXY",
        ),
    ];
    for (line, problem, advice) in refused {
        with(line);
        let output = serve_roles(&sts, &name, &folder.file()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), 65, "{said}");
        assert!(said.contains(problem) && said.contains(advice), "{said}");
        assert!(said.lines().count() == 1 && !said.contains("hush"), "{said}");
        assert!(folder.names().is_empty());
        assert_gone(&name);
    }
}

/// A program of this user asks the refresher, with a recipe of its own and without a base source.
#[test]
fn a_program_without_a_base_source_asks_it() {
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("asked"), Folder::new("", &[ALPHA]));
    let right = std::fs::read_to_string(folder.file()).unwrap();
    std::fs::write(folder.file(), format!("{right}timeout = 60\n")).unwrap();
    let (running, _) = served_roles(&sts, &name, &folder);
    until_refreshed_by(&name, running.pid());
    let pool = SharedRoles::attach(&name).unwrap();
    let recipe = |seconds| {
        AssumeRole::new(TENANT)
            .session_name("test")
            .external_id("aa")
            .region("us-east-1")
            .endpoint_url(sts.url())
            .operation_timeout(Duration::from_secs(seconds))
    };
    // The longest call that the roles file may ask for is the longest that the refresher makes.
    let set = pool.role(recipe(60)).unwrap().credentials().unwrap();
    let text = |text: &str| Value::from(text);
    let set = serde_json::json!({
        "AccessKeyId": text(set.access_key_id()),
        "SecretAccessKey": text(set.secret_access_key()),
        "Token": text(set.session_token().unwrap()),
    });
    assert!(is_of(&set, "aa"));
    let error = pool.role(recipe(61)).map(|role| role.credentials()).err();
    assert!(error.is_none_or(|error| error.kind() == ErrorKind::NoSource));
}

/// The refresher of `exec` ends with CMD.
#[test]
fn cmd_has_a_refresher() {
    let (sts, name, folder) =
        (LocalSts::start().unwrap(), name("exec"), Folder::new("", &[ALPHA, BETA]));
    let mut command = shmcreds(&sts);
    command.args(["exec", "--name", &name, "--role", "alpha", "--roles"]).arg(folder.file());
    let wait = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    command.args(["--", "/bin/sh", "-c", wait]);
    let mut running = Running::start(command);
    assert_eq!(running.line(), "ready");
    until_refreshed_by(&name, child_of(running.pid()).unwrap());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert_gone(&name);
}
