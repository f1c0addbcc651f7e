//! The parent is killed: its workers go on without it.
#![allow(unsafe_code)]

mod support;

use std::{collections::BTreeMap, path::Path, thread::sleep, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmcreds::{
    Refresh, SharedSession, SharedSessionBuilder,
    testing::{LocalSts, ManualClock, Settings},
};
use support::{
    Child, Report, assert_whole, assumed, child, elected, instant, lives, lock, name, role,
    segment, until,
};

fn main() {
    support::run_forking(&[
        ("workers_of_a_killed_parent_refresh", workers_refresh),
        ("workers_of_a_killed_parent_take_over_the_duty", workers_take_over_the_duty),
        ("workers_of_a_killed_parent_are_served_by_the_keeper", workers_are_served_by_the_keeper),
    ]);
}

const WORKERS: usize = 3;
/// A jump past its end is within every lease: nobody is taken for one that hangs.
const LIFE: Duration = Duration::from_secs(20);

/// 0 for nobody.
fn pid_of_refresher(session: &SharedSession) -> i32 {
    elected(session).map_or(0, Pid::as_raw)
}

/// A worker: of each new set it says its own pid, the generation, and the pid of who refreshes.
fn work(name: &str, report: &mut Report) {
    let session = SharedSession::attach(name).unwrap();
    let (mut newest, mut keys) = (0, BTreeMap::new());
    loop {
        let set = session.credentials().unwrap();
        let key = (set.secret_access_key().to_owned(), set.session_token().map(str::to_owned));
        let known = keys.entry(set.access_key_id().to_owned()).or_insert_with(|| key.clone());
        assert!(*known == key, "two sets of one key");
        let generation = session.status().unwrap().generation();
        assert!(generation >= newest, "from {newest} back to {generation}");
        if generation > newest {
            report.say(format!("{} {generation} {}\n", Pid::this(), pid_of_refresher(&session)));
        }
        newest = generation;
        sleep(Duration::from_millis(1));
    }
}

/// A worker's newest words.
struct Said {
    generation: u64,
    refresher: i32,
}

/// A parent and its workers; those go on without it, and speak through its pipe.
struct Server {
    sts: LocalSts,
    clock: ManualClock,
    name: String,
    parent: Child,
    /// Whom `create()` has started; 0 for nobody.
    dedicated: Pid,
    workers: BTreeMap<i32, Said>,
}

impl Server {
    /// Starts one whose workers all have the first set.
    fn start(name: String, mode: fn(SharedSessionBuilder) -> SharedSessionBuilder) -> Self {
        let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
        sts.configure(Settings::new().lifetime(LIFE)).unwrap();
        let builder = mode(SharedSession::builder(&name).source(role(&sts)).clock(&clock));
        let mut parent = child(|report| {
            let session = builder.create().unwrap();
            report.say(format!("{}\n", pid_of_refresher(&session)));
            let _workers: Vec<Child> =
                (0..WORKERS).map(|_| child(|_| work(session.name(), report))).collect();
            sleep(support::LIMIT);
        });
        let dedicated = Pid::from_raw(parent.hear_line().parse().unwrap());
        let workers = BTreeMap::new();
        let mut server = Server { sts, clock, name, parent, dedicated, workers };
        server.wait_for(1);
        server
    }

    /// Waits until each worker has had a set of this generation or a later one.
    fn wait_for(&mut self, generation: u64) {
        let has_it = |said: &&Said| said.generation >= generation;
        while self.workers.values().filter(has_it).count() < WORKERS {
            let line = self.parent.hear_line();
            let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
            let said = Said { generation: numbers[1], refresher: numbers[2] as i32 };
            self.workers.insert(numbers[0] as i32, said);
        }
        assert!(self.pids().all(lives), "a worker has died");
    }

    /// All sets expire, and each worker gets the next one, by one call.
    fn next_set(&mut self) {
        let newest = self.workers.values().map(|said| said.generation).max().unwrap();
        self.clock.advance(LIFE + Duration::from_secs(1));
        self.wait_for(newest + 1);
        assert_eq!(assumed(&self.sts) as u64, newest + 1);
    }

    fn kill_the_parent(&mut self) {
        self.parent.signal(Signal::SIGKILL);
        self.parent.reap();
    }

    fn kill_the_refresher(&self) {
        kill(self.dedicated, Signal::SIGKILL).unwrap();
        until("the refresher is dead", || !lives(self.dedicated));
    }

    fn kill_the_workers(&self) {
        self.pids().for_each(|worker| kill(worker, Signal::SIGKILL).unwrap());
        until("the workers are dead", || !self.pids().any(lives));
    }

    fn pids(&self) -> impl Iterator<Item = Pid> {
        self.workers.keys().copied().map(Pid::from_raw)
    }

    /// The name is free although nobody was left to tidy up.
    fn start_again(self, mode: Refresh) {
        let builder = SharedSession::builder(&self.name).source(instant()).refresh(mode);
        let session = builder.create().unwrap();
        assert_whole(&session.credentials().unwrap());
        assert_eq!(session.status().unwrap().generation(), 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for worker in self.pids().filter(|&worker| lives(worker)) {
            let _ = kill(worker, Signal::SIGKILL);
        }
    }
}

fn workers_refresh() {
    let mut server = Server::start(name("orphans"), |builder| builder);
    server.next_set();
    server.kill_the_parent();
    server.next_set();
    server.next_set();
    server.kill_the_workers();
    server.start_again(Refresh::Deferred);
}

fn workers_take_over_the_duty() {
    let mut server =
        Server::start(name("orphaned-loop"), |builder| builder.refresh(Refresh::Eager));
    server.next_set();
    server.kill_the_parent();
    server.next_set();
    assert!(server.workers.values().all(|said| said.refresher == server.dedicated.as_raw()));
    server.kill_the_refresher();
    server.next_set();
    server.next_set();
    for refresher in server.workers.values().map(|said| said.refresher) {
        assert!(server.workers.contains_key(&refresher), "{refresher} is none of the workers");
    }
    server.kill_the_workers();
    let (segment, lock) = (segment(&server.name), lock(&server.name));
    until("nothing is left", || !Path::new(&segment).exists() && !Path::new(&lock).exists());
    server.start_again(Refresh::Eager);
}

fn workers_are_served_by_the_keeper() {
    let mut server =
        Server::start(name("keeper"), |builder| builder.refresh(Refresh::Eager).sealed());
    server.next_set();
    server.kill_the_parent();
    server.next_set();
    server.kill_the_refresher();
    server.next_set();
    server.next_set();
    let last = Pid::from_raw(server.workers.values().next().unwrap().refresher);
    assert!(last != server.dedicated && !server.workers.contains_key(&last.as_raw()));
    server.kill_the_workers();
    until("the refresher ends with the last worker", || !lives(last));
    server.start_again(Refresh::Deferred);
}
