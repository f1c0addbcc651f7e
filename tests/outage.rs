//! STS fails for long, and 64 workers read all along.
#![allow(unsafe_code)]

mod support;

use std::{thread::sleep, time::Duration};

use shmcreds::{
    AssumeRole, Refresh, SharedSession, SourceError, SourceErrorClass, State, Status,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};
use support::{Child, Report, assumed, child, name, role, until};

fn main() {
    support::run_forking(&[
        ("an_outage_of_ten_windows_keeps_to_the_back_off", an_outage_of_ten_windows),
        ("a_throttling_storm_keeps_to_the_back_off", a_throttling_storm),
        ("a_black_hole_keeps_to_the_back_off", a_black_hole),
        ("a_terminal_error_is_told_to_all_at_once", a_terminal_error),
        ("a_wrong_clock_does_not_change_the_life_of_a_set", a_wrong_clock),
        ("a_stepped_clock_changes_nothing", a_stepped_clock),
    ]);
}

const WORKERS: usize = 64;
/// A set that lives this long is due half of it before its end.
const LIFE: Duration = Duration::from_secs(120);
/// The limits of the back-off: never sooner, never later, never later without a valid set.
const FLOOR: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(300);
const LONGEST_WITHOUT_A_SET: Duration = Duration::from_secs(5);
const LONGEST_THROTTLED_WITHOUT_A_SET: Duration = Duration::from_secs(60);
/// Long enough for an honest answer of the loopback, however busy the machine.
const BLACK_HOLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A session with its first set, and the workers that read it.
struct Fleet {
    sts: LocalSts,
    clock: ManualClock,
    session: SharedSession,
    workers: Vec<Child>,
}

impl Fleet {
    /// The source must not try again by itself: each of its calls is one of the STS.
    fn new(refresh: Refresh, life: Duration, source: fn(&LocalSts) -> AssumeRole) -> Self {
        Self::set_up(refresh, life, source, 0)
    }

    /// The same with the clock of STS so many seconds ahead.
    fn set_up(
        refresh: Refresh,
        life: Duration,
        source: fn(&LocalSts) -> AssumeRole,
        skew: i64,
    ) -> Self {
        let sts = LocalSts::fork().unwrap();
        sts.configure(Settings::new().lifetime(life).date_skew(skew)).unwrap();
        let clock = ManualClock::new().unwrap();
        let builder = SharedSession::builder(name("outage")).source(source(&sts));
        let session = builder.clock(&clock).refresh(refresh).create().unwrap();
        // By a child: this process must keep to one thread in order to fork.
        child(|_| drop(session.credentials().unwrap())).finish();
        let workers = (0..WORKERS).map(|_| child(|report| work(&session, report))).collect();
        let mut fleet = Fleet { sts, clock, session, workers };
        fleet.workers.iter_mut().for_each(|worker| assert_eq!(worker.hear(), b'.'));
        fleet
    }

    fn status(&self) -> Status {
        self.session.status().unwrap()
    }

    /// Goes to the advisory point with STS out of order, and waits for the first failure.
    fn break_down(&self, fault: Fault) {
        self.sts.inject(fault, Times::UntilCleared).unwrap();
        self.clock.advance(self.status().refresh_in());
        self.failed(1);
    }

    /// Waits until the source has failed so often and nobody asks it any more.
    fn failed(&self, times: u64) {
        until("an attempt fails", || self.status().failed() >= times);
        if self.status().mode() == Refresh::Deferred {
            until("the refresh is over", || self.status().lease_holder().is_none());
        }
    }

    /// Steps from attempt to attempt until `outage` has passed. Gives what has really passed.
    fn walk(&self, outage: Duration, check: impl Fn(&Status, Duration)) -> Duration {
        let mut passed = Duration::ZERO;
        let mut attempts = self.status().failed();
        while passed < outage {
            let status = self.status();
            let wait = status.last_failure().unwrap().next_attempt_in();
            check(&status, wait);
            self.clock.advance(wait);
            passed += wait;
            attempts += 1;
            self.failed(attempts);
            // One call for each time that the back-off was over, and none beside.
            assert_eq!(self.status().failed(), attempts);
        }
        passed
    }

    /// What the back-off allows: the first set, the first failure, and then one call for each wait,
    /// of which none is shorter than the floor.
    fn assert_calls(&self, class: SourceErrorClass, passed: Duration) {
        let status = self.status();
        assert_eq!((status.state(), status.generation()), (State::Expired, 1));
        assert_eq!(status.last_failure().unwrap().failure().class(), class);
        assert_eq!(status.source_calls(), 1 + status.failed());
        let bound = 2 + passed.as_millis() / FLOOR.as_millis();
        assert!(u128::from(status.source_calls()) <= bound, "{} {bound}", status.source_calls());
    }

    /// Waits until every worker has told the newest failure.
    fn all_hear(&mut self) {
        let status = self.status();
        let request = status.last_failure().unwrap().failure().request_id().unwrap().to_owned();
        for worker in &mut self.workers {
            let mut said = String::new();
            while !said.ends_with(&format!("{request}\n")) {
                said.push(worker.hear() as char);
            }
        }
    }

    /// Ends the outage: at the next attempt everyone gets the new set.
    fn recover(mut self) {
        let calls = self.status().source_calls();
        self.sts.clear_faults().unwrap();
        self.clock.advance(self.status().last_failure().unwrap().next_attempt_in());
        all_replaced(&mut self);
        let status = self.status();
        assert_eq!((status.generation(), status.source_calls()), (2, calls + 1));
        assert_eq!(assumed(&self.sts) as u64, status.source_calls());
        assert!(status.last_failure().is_none());
    }
}

fn last_line(said: &str) -> String {
    said.lines().last().unwrap().to_owned()
}

/// Reads until the second set comes, and tells its key. Tells each request that failed, too.
fn work(session: &SharedSession, report: &mut Report) {
    let first = session.credentials().unwrap().access_key_id().to_owned();
    report.say(".");
    let mut told = String::new();
    loop {
        let before = session.status().unwrap();
        let over = before.generation() == 1 && before.state() == State::Expired;
        match session.credentials() {
            Ok(set) if set.access_key_id() != first => {
                return report.say(format!("\n{}\n", set.access_key_id()));
            }
            Ok(_) => assert!(!over, "an expired set was served"),
            Err(error) => {
                // The time goes on while we look, yet a valid set does not come back.
                let after = session.status().unwrap();
                let valid = after.generation() == 1 && after.state() != State::Expired;
                assert!(!valid, "a read failed beside a valid set: {error}");
                let request = request_of(&error);
                if request != told {
                    report.say(format!("\n{request}\n"));
                    told = request;
                }
            }
        }
        // The machine is to be shared with STS and the other workers.
        sleep(Duration::from_millis(20));
    }
}

fn request_of(error: &shmcreds::Error) -> String {
    let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<SourceError>());
    cause.and_then(SourceError::request_id).unwrap_or_default().to_owned()
}

fn once(sts: &LocalSts) -> AssumeRole {
    role(sts).max_attempts(1)
}

/// Full jitter below a ceiling that doubles from a second on, and what the set allows.
fn assert_jitter(status: &Status, wait: Duration) {
    let last = status.last_failure().unwrap();
    let in_a_row = last.in_a_row();
    let ceiling = Duration::from_secs(1 << (in_a_row - 1).min(16)).min(LONGEST);
    let allowed = match last.failure().class() {
        _ if status.expires_in() > Duration::ZERO => {
            (status.expires_in() / 2).max(Duration::from_millis(500))
        }
        SourceErrorClass::Throttled => LONGEST_THROTTLED_WITHOUT_A_SET,
        _ => LONGEST_WITHOUT_A_SET,
    };
    assert!(wait >= FLOOR && wait <= ceiling.min(allowed), "{in_a_row}: {wait:?}");
}

fn an_outage_of_ten_windows() {
    for refresh in [Refresh::Deferred, Refresh::Eager] {
        ten_windows(refresh, Fault::Status(503), SourceErrorClass::Transient);
    }
}

fn a_throttling_storm() {
    ten_windows(Refresh::Eager, Fault::Throttling, SourceErrorClass::Throttled);
}

fn ten_windows(refresh: Refresh, fault: Fault, class: SourceErrorClass) {
    let fleet = Fleet::new(refresh, LIFE, once);
    fleet.break_down(fault);
    let window = fleet.status().expires_in();
    let passed = fleet.walk(10 * window, assert_jitter);
    fleet.assert_calls(class, passed);
    assert_eq!(assumed(&fleet.sts) as u64, fleet.status().source_calls());
    fleet.recover();
}

/// Calls that STS never answers. Each takes its whole time-out: a short life keeps them few.
fn a_black_hole() {
    let source = |sts: &LocalSts| once(sts).operation_timeout(BLACK_HOLE_TIMEOUT);
    let fleet = Fleet::new(Refresh::Deferred, LIFE / 20, source);
    fleet.break_down(Fault::BlackHole);
    let window = fleet.status().expires_in();
    let passed = fleet.walk(4 * window, assert_jitter);
    fleet.assert_calls(SourceErrorClass::Transient, passed);
    assert_eq!(assumed(&fleet.sts) as u64, fleet.status().source_calls());
    fleet.recover();
}

fn a_terminal_error() {
    for refresh in [Refresh::Deferred, Refresh::Eager] {
        let mut fleet = Fleet::new(refresh, 20 * LIFE, once);
        fleet.break_down(Fault::AccessDenied);
        // Beside a valid set it is not asked in vain for long, but for its very end.
        let window = fleet.status().expires_in();
        let longest = |left: Duration| LONGEST.min(left.max(LONGEST_WITHOUT_A_SET));
        fleet.walk(window, |status, wait| assert_eq!(wait, longest(status.expires_in())));
        let calls = fleet.status().source_calls();
        assert!(calls as u128 <= 3 + window.as_nanos() / LONGEST.as_nanos(), "{calls}");
        // Without one each failure is told to everybody, and holds for a while.
        for attempt in 1..=10 {
            fleet.all_hear();
            let wait = fleet.status().last_failure().unwrap().next_attempt_in();
            assert_eq!(wait, LONGEST_WITHOUT_A_SET);
            fleet.clock.advance(wait);
            fleet.failed(calls - 1 + attempt);
            assert_eq!(fleet.status().source_calls(), calls + attempt);
        }
        fleet.all_hear();
        assert_eq!(assumed(&fleet.sts) as u64, calls + 10);
        fleet.recover();
    }
}

/// Twenty minutes, as seconds.
const WRONG: i64 = 20 * 60;
/// The clocks may differ by so much and nobody minds; the injected one stands while STS goes on.
const TOLERANCE: Duration = Duration::from_secs(3);

/// Waits until every worker has the second set and has ended.
fn all_replaced(fleet: &mut Fleet) {
    let keys = fleet.workers.drain(..).map(Child::finish).map(|said| last_line(&said));
    let mut keys: Vec<_> = keys.collect();
    keys.dedup();
    assert_eq!(keys.len(), 1, "the same set for all");
}

/// The set is replaced at the advisory point of its true life, by one call.
fn assert_in_time(fleet: &mut Fleet, life: Duration) {
    let status = fleet.status();
    let left = status.expires_in();
    assert!(left.abs_diff(life) <= TOLERANCE, "{left:?}");
    // The default window is a third of a short life at most, and opens anywhere in the second half before it.
    let due = status.refresh_in();
    assert!(due >= left / 2 && due <= left * 2 / 3 + Duration::from_secs(1), "{due:?}");
    fleet.clock.advance(due - Duration::from_millis(1));
    assert_eq!((fleet.status().state(), assumed(&fleet.sts)), (State::Fresh, 1));
    fleet.clock.advance(Duration::from_millis(1));
    all_replaced(fleet);
    assert_eq!((fleet.status().generation(), assumed(&fleet.sts)), (2, 2));
}

fn a_wrong_clock() {
    for skew in [-WRONG, WRONG] {
        // Shorter than the error, and so either expired or twice as long by the local clock.
        let life = LIFE * 5;
        let mut fleet = Fleet::set_up(Refresh::Deferred, life, once, skew);
        assert_in_time(&mut fleet, life);

        // And with STS out of order it ends with its true life: the workers see to that.
        let mut fleet = Fleet::set_up(Refresh::Deferred, life, once, skew);
        fleet.break_down(Fault::AccessDenied);
        fleet.clock.advance(fleet.status().expires_in());
        fleet.failed(2);
        assert_eq!(fleet.status().state(), State::Expired);
        fleet.all_hear();
        fleet.recover();
    }
}

fn a_stepped_clock() {
    for step in [-WRONG, WRONG] {
        let life = LIFE * 5;
        let mut fleet = Fleet::new(Refresh::Deferred, life, once);
        let points = |status: Status| (status.state(), status.refresh_in(), status.expires_in());
        let before = points(fleet.status());
        fleet.clock.step_wall(step);
        assert_eq!(points(fleet.status()), before);
        assert_in_time(&mut fleet, life);
        let left = fleet.status().expires_in();
        assert!(left.abs_diff(life) <= TOLERANCE, "{left:?}");
    }
}
