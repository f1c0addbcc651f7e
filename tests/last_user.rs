//! Sessions whose names the last user removes: processes of equal rank that come and go.
#![allow(unsafe_code)]

mod support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmcreds::{ErrorKind, Refresh, SharedSession, SharedSessionBuilder, testing::LocalSts};
use support::{
    Child, Report, StopFile, assert_whole, assumed, child, elected, instant, lives, lock, name,
    role, segment, until,
};

fn main() {
    support::run_forking(&[
        ("newcomers_join_when_the_creator_has_ended", newcomers_join),
        ("workers_that_inherited_it_are_users", workers_that_inherited_it_are_users),
        ("killed_users_leave_it_to_the_next_start", killed_users),
        ("a_start_of_another_name_removes_it_too", a_start_of_another_name),
        ("only_sessions_of_this_kind_are_removed", only_sessions_of_this_kind),
        ("a_handle_that_is_dropped_beside_another_is_not_the_last", two_handles),
        ("a_process_that_leaves", a_process_that_leaves),
        ("a_process_that_left_comes_back", a_process_that_left_comes_back),
        ("the_term_of_a_process_that_left_goes_on", the_term_of_a_process_that_left),
        ("an_eager_session_too", an_eager_session_too),
        ("a_sealed_session_has_no_names", a_sealed_session_has_no_names),
        ("fifty_processes_come_and_go", fifty_processes_come_and_go),
    ]);
}

fn builder(name: &str) -> SharedSessionBuilder {
    SharedSession::builder(name).source(instant()).removed_by_last_user()
}

fn open(name: &str) -> SharedSession {
    builder(name).attach_or_create().unwrap()
}

fn is_there(name: &str) -> bool {
    let there = [segment(name), lock(name)].map(|path| Path::new(&path).exists());
    assert_eq!(there[0], there[1], "both names or none");
    there[0]
}

/// A child of a child, which does not keep the parent's report open.
fn heir(report: &Report, work: impl FnOnce()) -> Child {
    let number = report.number();
    child(|_| {
        // SAFETY: the child's copy of the descriptor is used no more.
        unsafe { nix::libc::close(number) };
        work();
    })
}

fn key(session: &SharedSession) -> String {
    let set = session.credentials().unwrap();
    assert_whole(&set);
    set.access_key_id().to_owned()
}

/// A process that opens the session, says its key, and ends in good order when it is told to.
struct User {
    child: Child,
    key: String,
    stop: StopFile,
}

impl User {
    fn new(name: &str) -> Self {
        User::of(name, open)
    }

    fn of(name: &str, open: impl FnOnce(&str) -> SharedSession) -> Self {
        let stop = StopFile::new(&support::name("user"));
        let mut child = child(|report| {
            let session = open(name);
            report.say(format!("{}\n", key(&session)));
            until("it is told to end", || stop.is_there());
        });
        User { key: child.hear_line(), child, stop }
    }

    fn end(self) {
        self.stop.end(vec![self.child]);
    }
}

fn newcomers_join() {
    let name = name("newcomers");
    let creator = User::new(&name);
    let (second, first) = (User::new(&name), creator.key.clone());
    creator.end();
    for _ in 0..3 {
        let newcomer = User::new(&name);
        assert_eq!(newcomer.key, first);
        newcomer.end();
    }
    assert_eq!(second.key, first);
    let third = User::of(&name, |name| SharedSession::attach(name).unwrap());
    second.end();
    assert_eq!(User::new(&name).key, first);
    assert!(is_there(&name));
    third.end();
    assert!(!is_there(&name), "the last user has no source, and is the last one all the same");
}

fn workers_that_inherited_it_are_users() {
    let name = name("workers");
    let go = StopFile::new(&support::name("go"));
    let mut parent = child(|report| {
        let session = open(&name);
        report.say(format!("{}\n", key(&session)));
        let workers: Vec<Child> = (0..3)
            .map(|_| heir(report, || until("they are told to end", || go.is_there())))
            .collect();
        let pids: Vec<String> = workers.iter().map(|worker| worker.pid.to_string()).collect();
        report.say(format!("{}\n", pids.join(" ")));
        // They live on, and nobody waits for them.
        std::mem::forget(workers);
        drop(session);
    });
    let first = parent.hear_line();
    let workers: Vec<Pid> =
        parent.hear_line().split(' ').map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    parent.finish();
    assert!(is_there(&name), "three workers have it");
    assert_eq!(User::new(&name).key, first);
    kill(workers[0], Signal::SIGKILL).unwrap();
    let newcomer = User::new(&name);
    assert_eq!(newcomer.key, first);
    go.write();
    until("the workers are gone", || workers.iter().all(|worker| !lives(*worker)));
    assert!(is_there(&name));
    newcomer.end();
    assert!(!is_there(&name));
}

fn killed_users() {
    let name = name("killed");
    let users: Vec<User> = (0..3).map(|_| User::new(&name)).collect();
    let first = users[0].key.clone();
    for user in users {
        assert_eq!(user.key, first);
        drop(user.child);
    }
    assert!(is_there(&name), "nobody was left to remove it");
    let next = User::new(&name);
    assert_ne!(next.key, first);
    next.end();
    assert!(!is_there(&name));
}

fn a_start_of_another_name() {
    let (killed, other) = (name("leftover"), name("other"));
    drop(User::new(&killed).child);
    assert!(is_there(&killed));
    User::new(&other).end();
    assert!(!is_there(&killed) && !is_there(&other));
    // One that is used stays.
    let used = User::new(&killed);
    User::new(&other).end();
    assert!(is_there(&killed));
    used.end();
}

fn only_sessions_of_this_kind() {
    let (plain, other) = (name("plain"), name("other"));
    let plain_user = User::of(&plain, |name| {
        SharedSession::builder(name).source(instant()).attach_or_create().unwrap()
    });
    drop(plain_user.child);
    User::new(&other).end();
    assert!(is_there(&plain), "a session without the mode waits for its own next start");
    SharedSession::remove(&plain).unwrap();
}

fn two_handles() {
    let name = name("handles");
    let first = open(&name);
    let patient = builder(&name).wait_timeout(Duration::from_secs(7)).attach_or_create().unwrap();
    assert_eq!(key(&first), key(&patient));
    drop(first);
    assert!(is_there(&name));
    assert_eq!(User::new(&name).key, key(&patient));
    let clone = patient.clone();
    drop(patient);
    assert!(is_there(&name));
    drop(clone);
    assert!(!is_there(&name));
}

fn a_process_that_leaves() {
    let name = name("leaves");
    let ends = |leave: bool| {
        let mut process = child(|_| {
            let session = open(&name);
            key(&session);
            if leave {
                session.leave();
                assert_eq!(session.snapshot().unwrap().unwrap().generation(), 1, "it reads on");
                session.leave();
            }
            // SAFETY: ends the process without a drop, as `exit` does with what is in statics.
            unsafe { nix::libc::_exit(0) }
        });
        process.reap();
    };
    ends(true);
    assert!(!is_there(&name));
    ends(false);
    assert!(is_there(&name));
    let user = User::new(&name);
    ends(true);
    assert!(is_there(&name), "another process uses it");
    user.end();
    assert!(!is_there(&name));
}

fn a_process_that_left_comes_back() {
    let name = name("back");
    let session = open(&name);
    let first = key(&session);
    let user = User::new(&name);
    session.leave();
    let again = SharedSession::attach(&name).unwrap();
    user.end();
    assert!(is_there(&name), "this process is a user again");
    assert_eq!(User::new(&name).key, first);
    again.leave();
    assert!(!is_there(&name));
    // It is gone, so the next one is another, although this process has handles of the old one.
    assert_eq!(SharedSession::attach(&name).unwrap_err().kind(), ErrorKind::Absent);
    let next = open(&name);
    assert_ne!(key(&next), first);
    assert_eq!(User::new(&name).key, key(&next));
    drop((session, again));
    assert!(is_there(&name), "the old handles have nothing to remove");
    drop(next);
    assert!(!is_there(&name));
}

fn the_term_of_a_process_that_left() {
    let name = name("term");
    let session = open(&name);
    let shmcreds::Election::Elected(term) = session.elect().unwrap() else {
        panic!("there is no set yet")
    };
    let mut user = child(|report| {
        let session = SharedSession::attach(&name).unwrap();
        report.say("!");
        report.say(key(&session));
        // It has inherited a handle, too.
        session.leave();
    });
    user.hear();
    session.leave();
    let error = session.elect_within(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    child(|_| {
        let error = session.elect_within(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "its mark tells that it is elected");
    })
    .finish();
    let set = term.publish(support::instant_set()).unwrap();
    assert_eq!(user.finish(), set.credentials().access_key_id());
    assert!(!is_there(&name));
}

fn an_eager_session_too() {
    let sts = LocalSts::fork().unwrap();
    let name = name("eager");
    let open = |name: &str| {
        let builder = SharedSession::builder(name).source(role(&sts)).refresh(Refresh::Eager);
        builder.removed_by_last_user().attach_or_create().unwrap()
    };
    let plain_key =
        |session: &SharedSession| session.credentials().unwrap().access_key_id().to_owned();
    let user = || {
        let stop = StopFile::new(&support::name("user"));
        let mut child = child(|report| {
            let session = open(&name);
            let refresher = elected(&session).unwrap();
            report.say(format!("{} {refresher}\n", plain_key(&session)));
            until("it is told to end", || stop.is_there());
        });
        (child.hear_line(), child, stop)
    };
    let (first, creator, stop) = user();
    let refresher: i32 = first.split_once(' ').unwrap().1.parse().unwrap();
    let (second, other, stop_other) = user();
    assert_eq!(first, second);
    stop.end(vec![creator]);
    let (third, newcomer, stop_newcomer) = user();
    assert_eq!((first == third, assumed(&sts)), (true, 1));
    stop_other.end(vec![other]);
    assert!(lives(Pid::from_raw(refresher)) && is_there(&name));
    stop_newcomer.end(vec![newcomer]);
    until("names and refresher are gone", || {
        !Path::new(&lock(&name)).exists() && !lives(Pid::from_raw(refresher))
    });
    assert!(!is_there(&name));
    // Killed users leave nothing either: the refresher notices.
    let (_, killed, _) = user();
    drop(killed);
    until("the names are gone", || !Path::new(&lock(&name)).exists());
}

fn a_sealed_session_has_no_names() {
    let builder = builder(&name("sealed")).refresh(Refresh::Eager).sealed();
    let error = builder.create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("removed_by_last_user: a sealed session"), "{error}");
}

/// A process that is certainly a user once it has said its key, until it is told to end or killed.
struct Member {
    child: Child,
    stop: String,
}

impl Member {
    /// With `inherited`, a child of the process has the session, and the process ends with it.
    fn new(name: &str, inherited: bool) -> Self {
        let stop = support::name("member");
        let child = child(|report| {
            let session = open(name);
            report.say(format!("{}\n", key(&session)));
            let stop = StopFile::new(&stop);
            let wait = || until("it is told to end", || stop.is_there());
            if !inherited {
                return wait();
            }
            let mut heir = heir(report, || {
                wait();
                drop(session);
            });
            heir.reap();
        });
        Member { child, stop }
    }

    /// Tells the process and its children to end in good order.
    fn end(&self) {
        StopFile::new(&self.stop).keep();
    }
}

/// Never two live segments of one name: what is certainly a user has the same set as all the others.
fn fifty_processes_come_and_go() {
    const MOST: usize = 50;
    let name = name("crowd");
    let mut seed = 1u64;
    let mut random = move |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let mut coming: Vec<Member> = Vec::new();
    let mut users: Vec<(Member, String)> = Vec::new();
    let mut ending: Vec<Member> = Vec::new();
    let mut keys = BTreeMap::<String, usize>::new();
    for step in 0..3000 {
        // From time to time all go.
        let all_go = step % 300 > 200;
        match random(12) {
            0..=5 if !all_go && coming.len() + users.len() < MOST => {
                coming.push(Member::new(&name, random(4) == 0));
            }
            // Some are killed while they create or attach.
            6 if !coming.is_empty() => {
                let victim = coming.swap_remove(random(coming.len()));
                victim.child.signal(Signal::SIGKILL);
                ending.push(victim);
            }
            7 | 8 if !users.is_empty() => {
                let (victim, _) = users.swap_remove(random(users.len()));
                victim.child.signal(Signal::SIGKILL);
                ending.push(victim);
            }
            9 | 10 if !users.is_empty() => {
                let (user, _) = users.swap_remove(random(users.len()));
                user.end();
                ending.push(user);
            }
            _ => {
                for mut member in coming.drain(..) {
                    let key = member.child.hear_line();
                    *keys.entry(key.clone()).or_default() += 1;
                    if let Some((_, other)) = users.first() {
                        assert_eq!(&key, other, "two live segments of one name");
                    }
                    users.push((member, key));
                }
                for mut member in ending.drain(..) {
                    // The child of a killed process goes on until now.
                    member.end();
                    member.child.reap();
                }
            }
        }
    }
    assert!(keys.len() > 3, "all users were gone at times: {keys:?}");
    assert!(keys.values().any(|users| *users > 20), "many had the same set: {keys:?}");
    for mut member in coming {
        member.child.hear_line();
        ending.push(member);
    }
    ending.extend(users.into_iter().map(|(user, _)| user));
    for mut member in ending {
        member.end();
        member.child.reap();
    }
    // The last one may have been killed: the next start cleans up.
    until("no process has it", || {
        User::new(&name).end();
        !is_there(&name)
    });
    let _ = std::fs::read_dir(std::env::temp_dir()).map(|files| {
        let own = format!("t-member-{}-", std::process::id());
        for file in
            files.flatten().filter(|file| file.file_name().to_string_lossy().starts_with(&own))
        {
            let _ = std::fs::remove_file(file.path());
        }
    });
}
