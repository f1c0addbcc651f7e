//! Sets that are valid for long enough: early refreshes, one for all processes, and no storm of calls.
#![allow(unsafe_code)]

mod support;

use std::{os::unix::fs::FileExt, time::Duration};

use nix::sys::signal::Signal;
use shmcreds::{
    Election, Error, ErrorKind, ManualSource, Refresh, SetSnapshot, SharedSession,
    SharedSessionBuilder, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};
use support::{Child, Gate, LIMIT, StopFile, assumed, child, instant_set, lock, name, role, until};

fn main() {
    support::run_forking(&[
        ("one_refresh_gives_a_set_that_lasts", one_refresh_gives_a_set_that_lasts),
        ("sixty_four_workers_ask_at_once", sixty_four_workers_ask_at_once),
        ("more_than_a_role_gives_is_an_error_without_a_call", more_than_a_role_gives),
        ("an_hour_of_a_role_of_an_hour_is_not_too_much", an_hour_of_a_role_of_an_hour),
        ("sets_that_become_shorter_cause_one_call", sets_that_become_shorter),
        ("a_thousand_requests_a_minute_for_59_of_60_minutes", a_thousand_requests_a_minute),
        ("clocks_that_jump", clocks_that_jump),
        ("the_expiry_follows_the_wall_clock", the_expiry_follows_the_wall_clock),
        ("a_failure_is_an_error_and_holds_the_others_back", a_failure_is_an_error),
        ("a_worker_killed_in_the_refresh_is_replaced", a_worker_killed_in_the_refresh),
        ("workers_that_die_in_the_refresh_make_no_storm", workers_that_die_make_no_storm),
        ("a_program_that_calls_itself_is_elected", a_program_that_calls_itself),
        ("an_async_caller_blocks_no_runtime", an_async_caller),
        ("a_request_page_that_says_anything", a_request_page_that_says_anything),
        ("a_consumer_that_keeps_its_set", a_consumer_that_keeps_its_set),
        ("a_consumer_that_keeps_its_set_for_too_long", a_consumer_that_keeps_it_for_too_long),
    ]);
}

const MINUTE: Duration = Duration::from_secs(60);

struct Scene {
    sts: LocalSts,
    clock: ManualClock,
    session: SharedSession,
}

fn scene(build: impl FnOnce(SharedSessionBuilder) -> SharedSessionBuilder) -> Scene {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let builder = SharedSession::builder(name("valid-for")).source(role(&sts)).clock(&clock);
    let session = build(builder).create().unwrap();
    session.credentials().unwrap();
    Scene { sts, clock, session }
}

fn deferred() -> Scene {
    scene(|builder| builder)
}

impl Scene {
    fn ask(&self, minutes: u32) -> Result<SetSnapshot, Error> {
        self.session.credentials_valid_for(MINUTE * minutes)
    }

    fn early(&self) -> u64 {
        self.session.status().unwrap().early_refreshes()
    }

    /// A child that asks, and says the key or the error.
    fn asking(&self, minutes: u32) -> Child {
        child(|report| {
            let session = SharedSession::attach(self.session.name()).unwrap();
            report.say("!");
            match session.credentials_valid_for(MINUTE * minutes) {
                Ok(set) => report.say(set.credentials().access_key_id()),
                Err(error) => report.say(error.to_string()),
            }
        })
    }
}

fn one_refresh_gives_a_set_that_lasts() {
    let scene = deferred();
    let first = scene.ask(50).unwrap();
    assert!(first.expires_in() >= 50 * MINUTE && first.lifetime() > 59 * MINUTE, "{first:?}");
    assert_eq!((assumed(&scene.sts), scene.early()), (1, 0), "the set that is there lasts");
    // A set of this source lives exactly so long: it is not too much to ask for.
    let whole = scene.session.credentials_valid_for(first.lifetime()).unwrap();
    assert_eq!((whole.generation(), scene.early()), (1, 0), "young enough");
    scene.clock.advance(20 * MINUTE);
    assert_eq!(scene.session.status().unwrap().state(), State::Fresh);
    let second = scene.ask(50).unwrap();
    assert!(second.expires_in() >= 50 * MINUTE, "{second:?}");
    assert_ne!(second.credentials().access_key_id(), first.credentials().access_key_id());
    assert_eq!((assumed(&scene.sts), scene.early(), second.generation()), (2, 1, 2));
    // Zero is what every set that is valid has left.
    assert_eq!(scene.ask(0).unwrap().generation(), 2);
    assert_eq!(scene.ask(50).unwrap().generation(), 2);
    // 20 minutes are left, as one who presigns for 50 minutes finds it.
    scene.clock.advance(25 * MINUTE);
    assert!(scene.ask(50).unwrap().expires_in() >= 50 * MINUTE);
    assert_eq!((assumed(&scene.sts), scene.early()), (3, 2));
    // A refresh that is due anyway is none of these.
    scene.clock.advance(61 * MINUTE);
    assert!(scene.ask(50).unwrap().expires_in() >= 50 * MINUTE);
    assert_eq!((assumed(&scene.sts), scene.early()), (4, 2));
}

fn sixty_four_workers_ask_at_once() {
    let kinds: [fn(SharedSessionBuilder) -> SharedSessionBuilder; 3] = [
        |builder| builder,
        |builder| builder.refresh(Refresh::Eager),
        |builder| builder.refresh(Refresh::Eager).sealed(),
    ];
    for kind in kinds {
        let scene = scene(kind);
        scene.sts.configure(Settings::new().latency(Duration::from_millis(200))).unwrap();
        scene.clock.advance(15 * MINUTE);
        let go = StopFile::new(scene.session.name());
        let worker = || {
            let mut worker = child(|report| {
                let session = SharedSession::attach(scene.session.name()).unwrap();
                report.say("!");
                until("all are there", || go.is_there());
                let set = session.credentials_valid_for(50 * MINUTE).unwrap();
                assert!(set.expires_in() >= 50 * MINUTE, "{set:?}");
                report.say(set.credentials().access_key_id());
            });
            worker.hear();
            worker
        };
        let workers = (0..64).map(|_| worker()).collect();
        let mut keys = go.end(workers);
        keys.sort();
        keys.dedup();
        assert_eq!((keys.len(), assumed(&scene.sts), scene.early()), (1, 2, 1));
    }
}

fn more_than_a_role_gives() {
    let scene = deferred();
    scene.clock.advance(20 * MINUTE);
    for duration in [12 * 60 * MINUTE, 61 * MINUTE, Duration::MAX] {
        let error = scene.session.credentials_valid_for(duration).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooShort, "{error}");
        assert!(!error.is_retryable());
        let text = error.to_string();
        let asked = format!("valid for {} s,", duration.as_secs());
        let set = scene.session.snapshot().unwrap().unwrap();
        let lives = format!("live for {} s", set.lifetime().as_secs());
        let another = format!("another {} s", set.expires_in().as_secs());
        for part in [&*asked, &*lives, &*another, "MaxSessionDuration"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    assert_eq!((assumed(&scene.sts), scene.early()), (1, 0));
    // It is known from the first set, which is fetched if there is none.
    let cold = SharedSession::builder(name("cold")).source(role(&scene.sts)).create().unwrap();
    for _ in 0..100 {
        let error = cold.credentials_valid_for(61 * MINUTE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooShort, "{error}");
    }
    assert_eq!(assumed(&scene.sts), 2);
}

/// Its sets live a moment less.
fn an_hour_of_a_role_of_an_hour() {
    let scene = deferred();
    let lifetime = || scene.session.snapshot().unwrap().unwrap().lifetime();
    let [moment, too_much] = [5, 11].map(Duration::from_secs);
    let ask = |duration| scene.session.credentials_valid_for(duration);
    assert_eq!(ask(lifetime() + moment).unwrap().generation(), 1);
    scene.clock.advance(10 * MINUTE);
    for _ in 0..10 {
        let set = ask(lifetime() + moment).unwrap();
        assert!(set.generation() == 2 && set.expires_in() > 59 * MINUTE, "{set:?}");
    }
    assert_eq!((assumed(&scene.sts), scene.early()), (2, 1));
    assert_eq!(ask(lifetime() + too_much).unwrap_err().kind(), ErrorKind::TooShort);
    assert_eq!(assumed(&scene.sts), 2);
}

fn sets_that_become_shorter() {
    let scene = deferred();
    scene.sts.configure(Settings::new().lifetime(15 * MINUTE)).unwrap();
    scene.clock.advance(20 * MINUTE);
    for _ in 0..100 {
        let error = scene.ask(50).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooShort, "{error}");
        assert!(
            error.to_string().contains("live for 900 s")
                || error.to_string().contains("live for 899 s"),
            "{error}"
        );
    }
    assert_eq!((assumed(&scene.sts), scene.early()), (2, 1));
    let lifetime = scene.session.snapshot().unwrap().unwrap().lifetime();
    assert!(lifetime <= 15 * MINUTE, "{lifetime:?}");
    // They become longer again. The next refresh that is due shows it.
    scene.sts.configure(Settings::new()).unwrap();
    scene.clock.advance(16 * MINUTE);
    assert!(scene.ask(50).unwrap().expires_in() >= 50 * MINUTE);
    assert_eq!((assumed(&scene.sts), scene.early()), (3, 1));
}

fn a_thousand_requests_a_minute() {
    let scene = deferred();
    let step = Duration::from_millis(60);
    let (mut shortest, mut as_asked) = (Duration::MAX, 0);
    for _ in 0..60_000 {
        let set = scene.ask(59).unwrap();
        shortest = shortest.min(set.expires_in());
        as_asked += u32::from(set.expires_in() >= 59 * MINUTE);
        scene.clock.advance(step);
    }
    let calls = assumed(&scene.sts);
    // One at the beginning, and one for each eighth of an hour.
    assert!((8..=9).contains(&calls), "{calls} calls");
    // Seven eighths of 60 minutes, without the time of a call and of a step.
    assert!(shortest > Duration::from_secs(52 * 60 + 28), "{shortest:?}");
    assert!(as_asked > 0);
    assert_eq!(scene.early(), calls as u64 - 1);
}

fn clocks_that_jump() {
    let scene = deferred();
    for seconds in [-86_400, 3 * 86_400, -7200] {
        scene.clock.step_wall(seconds);
        let set = scene.ask(50).unwrap();
        assert_eq!(set.generation(), 1, "the wall clock does not count: {set:?}");
    }
    // Nor when the next set is fetched, where the server's time corrects it.
    scene.clock.advance(20 * MINUTE);
    let set = scene.ask(50).unwrap();
    assert!(set.generation() == 2 && set.lifetime() > 59 * MINUTE, "{set:?}");
    assert_eq!(scene.ask(61).unwrap_err().kind(), ErrorKind::TooShort);
    // The machine was suspended for longer than the set lives.
    scene.clock.advance(600 * MINUTE);
    let set = scene.ask(50).unwrap();
    assert!(set.generation() == 3 && set.expires_in() >= 50 * MINUTE, "{set:?}");
    assert_eq!(assumed(&scene.sts), 3);
}

/// Other programs compare an expiry with the wall clock as it is set now. One of before a step would make them drop a valid
/// set, or keep an expired one.
fn the_expiry_follows_the_wall_clock() {
    let scene = deferred();
    let look = || scene.session.snapshot().unwrap().unwrap();
    let fetched = look().credentials().expiry().unwrap();
    assert_eq!(look().expiry(), fetched, "no step, the same expiry at each look");
    for seconds in [86_400, -2 * 86_400, 86_400] {
        scene.clock.step_wall(seconds);
        scene.clock.advance(MINUTE);
        let set = look();
        let left = set.expiry().duration_since(scene.clock.wall()).unwrap();
        assert_eq!(left.as_secs(), set.expires_in().as_secs(), "after a step of {seconds} s");
        assert_eq!(set.dated().expiry(), Some(set.expiry()));
    }
    assert_eq!(look().expiry(), fetched, "the steps add up to none");
    scene.clock.step_wall(-86_400);
    scene.clock.advance(60 * MINUTE);
    assert!(look().expiry() <= scene.clock.wall(), "it has expired");
    assert_eq!(assumed(&scene.sts), 1);
}

fn a_failure_is_an_error() {
    let scene = deferred();
    scene.clock.advance(20 * MINUTE);
    scene.sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    for _ in 0..20 {
        let error = scene.ask(50).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceTerminal, "{error}");
    }
    assert_eq!((assumed(&scene.sts), scene.early()), (2, 0), "the back-off holds");
    // What the set that is there can do, it does.
    assert_eq!(scene.ask(39).unwrap().generation(), 1);
    assert_eq!(scene.session.credentials().unwrap().access_key_id().len(), 20);
    scene.sts.clear_faults().unwrap();
    scene.clock.advance(6 * MINUTE);
    assert_eq!(scene.ask(50).unwrap().generation(), 2);
    assert_eq!((assumed(&scene.sts), scene.early()), (3, 1));
}

fn a_worker_killed_in_the_refresh() {
    let scene = deferred();
    scene.sts.inject(Fault::Under(Settings::new().latency(LIMIT)), Times::Next(1)).unwrap();
    scene.clock.advance(20 * MINUTE);
    let mut killed = scene.asking(50);
    killed.hear();
    until("its call has arrived", || assumed(&scene.sts) == 2);
    let mut others: Vec<_> = (0..8).map(|_| scene.asking(50)).collect();
    for other in &mut others {
        other.hear();
        other.asleep();
    }
    killed.signal(Signal::SIGKILL);
    killed.reap();
    // A death delays the next call by a second. Only this clock moves it.
    until("another process has made the call", || {
        scene.clock.advance(Duration::from_millis(50));
        scene.session.status().unwrap().generation() == 2
    });
    let keys: Vec<_> = others.into_iter().map(Child::finish).collect();
    let key = scene.session.credentials().unwrap().access_key_id().to_owned();
    assert!(keys.iter().all(|told| *told == key), "{keys:?}, must be {key}");
    assert_eq!((assumed(&scene.sts), scene.early()), (3, 1));
    assert_eq!(scene.session.status().unwrap().failed(), 0);
}

fn workers_that_die_make_no_storm() {
    let scene = deferred();
    scene.sts.configure(Settings::new().latency(LIMIT)).unwrap();
    scene.clock.advance(20 * MINUTE);
    for _ in 0..10 {
        let job = child(|_| {
            let builder = SharedSession::builder(scene.session.name());
            let session = builder.wait_timeout(Duration::from_millis(50)).attach().unwrap();
            let error = session.credentials_valid_for(50 * MINUTE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            let calls = || session.status().unwrap().source_calls();
            until("the call of the first job has begun", || calls() >= 2);
            // It ends here, in its call if it makes one.
        });
        job.finish();
    }
    // The first job's call. The second one sees its death and waits, as all others do.
    assert_eq!(scene.session.status().unwrap().source_calls(), 2);
    scene.sts.configure(Settings::new()).unwrap();
    let last = scene.asking(50);
    until("a process has made the call", || {
        scene.clock.advance(Duration::from_millis(50));
        scene.session.status().unwrap().generation() == 2
    });
    last.finish();
    assert_eq!(scene.early(), 1);
}

fn a_program_that_calls_itself() {
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name("valid-for-term")).clock(&clock);
    let session = builder.source(ManualSource::new("test")).create().unwrap();
    let ask = |minutes: u32| session.elect_valid_for(minutes * MINUTE, Duration::ZERO);
    let publish = |election: Election, life: Duration| {
        let Election::Elected(term) = election else { panic!("a call is needed") };
        let mut set = instant_set();
        *set.expiry_mut() = Some(clock.wall() + life);
        term.publish(set).unwrap()
    };
    publish(ask(50).unwrap(), 60 * MINUTE);
    assert!(matches!(ask(50).unwrap(), Election::Valid(set) if set.generation() == 1));
    clock.advance(5 * MINUTE);
    assert!(matches!(ask(58).unwrap(), Election::Valid(set) if set.generation() == 1), "too young");
    clock.advance(15 * MINUTE);
    assert_eq!(ask(61).unwrap_err().kind(), ErrorKind::TooShort);
    let election = ask(50).unwrap();
    // Another thread or process waits for this term.
    let error = child(|report| {
        let error = session.elect_valid_for(50 * MINUTE, Duration::ZERO).unwrap_err();
        report.say(format!("{:?}", error.kind()));
    });
    assert_eq!(error.finish(), "Timeout");
    let set = publish(election, 60 * MINUTE);
    assert_eq!(set.generation(), 2);
    assert!(matches!(ask(50).unwrap(), Election::Valid(set) if set.generation() == 2));
    assert_eq!(session.status().unwrap().early_refreshes(), 1);
}

fn an_async_caller() {
    let told = child(|report| {
        let (gate, clock) = (Gate::new(), ManualClock::new().unwrap());
        let of_clock = clock.clone();
        let source = gate.source_of(move || {
            let mut set = instant_set();
            *set.expiry_mut() = Some(of_clock.wall() + 60 * MINUTE);
            Ok(set)
        });
        let builder = SharedSession::builder(name("valid-for-async")).source(source).clock(&clock);
        let session = builder.create().unwrap();
        gate.open();
        session.credentials().unwrap();
        gate.close();
        clock.advance(20 * MINUTE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut ticks, ask) = (0, session.credentials_valid_for_async(50 * MINUTE));
            tokio::pin!(ask);
            let set = loop {
                tokio::select! {
                    set = &mut ask => break set.unwrap(),
                    () = tokio::time::sleep(Duration::from_millis(5)) => ticks += 1,
                }
                if ticks == 6 {
                    gate.open();
                }
            };
            assert!(set.generation() == 2 && ticks > 5, "{ticks} ticks");
            let error = session.credentials_valid_for_async(61 * MINUTE).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooShort);
            let set = session.credentials_valid_for_async(50 * MINUTE).await.unwrap();
            report.say(set.generation().to_string());
        });
    });
    assert_eq!(told.finish(), "2");
}

fn a_request_page_that_says_anything() {
    let scene = scene(|builder| builder.refresh(Refresh::Eager));
    let page =
        std::fs::File::options().write(true).read(true).open(lock(scene.session.name())).unwrap();
    let short = || {
        let mut word = [0; 8];
        page.read_exact_at(&mut word, 24).unwrap();
        u64::from_le_bytes(word)
    };
    page.write_all_at(&u64::MAX.to_le_bytes(), 24).unwrap();
    until("the refresher has seen it", || short() == 1);
    scene.clock.advance(7 * MINUTE);
    let seen = scene.session.status().unwrap().source_calls();
    assert_eq!(seen, 1, "younger than an eighth of its life");
    scene.clock.advance(MINUTE);
    until("the refresher has made one call", || scene.session.status().unwrap().generation() == 2);
    assert!(scene.ask(50).unwrap().expires_in() >= 50 * MINUTE);
    assert_eq!((assumed(&scene.sts), scene.early()), (2, 1));
}

/// Whenever it takes a set, that is valid for as long as the consumer keeps it.
fn a_consumer_that_keeps_its_set() {
    let scene = scene(|builder| builder.refresh(Refresh::Eager).consumers_keep(25 * MINUTE));
    for minute in 0..200 {
        until("the set is refreshed in time", || {
            scene.session.status().unwrap().state() == State::Fresh
        });
        let status = scene.session.status().unwrap();
        assert!(status.expires_in() >= 25 * MINUTE, "minute {minute}: {status}");
        assert_eq!(status.consumers_warning(), None, "{status}");
        scene.clock.advance(MINUTE);
    }
    let calls = assumed(&scene.sts);
    assert!((6..=8).contains(&calls), "{calls} calls in 200 minutes");
}

fn a_consumer_that_keeps_it_for_too_long() {
    let warning = |scene: &Scene| {
        let status = scene.session.status().unwrap();
        assert!(status.to_string().contains(status.consumers_warning().unwrap()), "{status}");
        status.consumers_warning().unwrap().to_owned()
    };
    let long = scene(|builder| builder.refresh(Refresh::Eager).consumers_keep(30 * MINUTE));
    let said = warning(&long);
    assert!(said.contains("keep a set for 1800 s") && said.contains("for 4000 s"), "{said}");
    let status = long.session.status().unwrap();
    assert!(
        status.expires_in() - status.refresh_in() >= 26 * MINUTE,
        "as much as it can: {status}"
    );
    let idle = scene(|builder| builder.consumers_keep(20 * MINUTE));
    let said = warning(&idle);
    assert!(said.contains("no process refreshes in time"), "{said}");
    // Windows of its own do not shorten it, in whichever process.
    let own = SharedSession::builder(idle.session.name()).advisory_window(MINUTE).attach().unwrap();
    own.refresh().unwrap();
    let status = own.status().unwrap();
    assert_eq!(status.consumers_keep(), 20 * MINUTE);
    assert!(status.expires_in() - status.refresh_in() >= 20 * MINUTE, "{status}");
    let refused = SharedSession::builder(name("kept")).source(role(&idle.sts));
    let error = refused.consumers_keep(37 * 60 * MINUTE).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("consumers_keep: is 133200s"), "{error}");
}
