//! The refresher of a pool: hostile requests, what it refreshes ahead of time, and one that a program runs.

use std::{
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Uid, geteuid, setgid, setuid};
use shmcreds::{
    AssumeRole, LeaseHolder, Refresh, SharedRoles, State, StopHandle,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    arn_of,
    asked::refresher,
    assert_of, pool,
    program::running,
    refresher_deaths::Takeovers,
    support::{assumed, child, name, segment, until},
    tenant,
};

/// A request of the format that `src/session/request.rs` describes.
pub fn request(wish: u64, generation: u64, key: [u64; 4], inputs: &str) -> Vec<u8> {
    let words: Vec<u64> = [wish, generation].into_iter().chain(key).collect();
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    b"shmask\0\x01".iter().copied().chain(bytes).chain(inputs.bytes()).collect()
}

pub fn inputs(arn: &str, url: &str, more: &str) -> String {
    format!(
        r#"{{"role_arn":"{arn}","session_name":"test","policy_arns":[],"tags":[],"transitive_tag_keys":[],
        "provided_contexts":[],"regions":[],"region":"us-east-1","endpoint_url":"{url}",
        "operation_timeout":{{"secs":15,"nanos":0}}{more}}}"#
    )
}

pub fn hostile_requests_do_no_harm() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("hostile")).refresh(Refresh::Eager).create().unwrap();
    let (pid, path) = (refresher(&roles), segment(roles.name()) + "@ask");
    let socket = UnixDatagram::unbound().unwrap();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    let (before, key) = (open(), [1, 2, 3, 4]);
    let allowed = inputs(&arn_of(7), &sts.url(), "");
    let other = inputs("arn:aws:iam::123456789012:role/admin", &sts.url(), "");
    let proxied = inputs(&arn_of(7), &sts.url(), r#","proxy":"http://127.0.0.1:1""#);
    let patient = allowed.replace("\"secs\":15", "\"secs\":18446744073709551615");
    let messages = [
        vec![],
        b"x".to_vec(),
        vec![0xff; 200],
        vec![0; 100_000],
        request(1, 0, key, ""),
        request(1, 0, key, "{}"),
        request(1, 0, key, &"[".repeat(100_000)),
        request(0, 0, key, &allowed),
        request(6, 0, key, &allowed),
        request(1, 0, [0; 4], &allowed),
        // The key of another recipe, that of no role, and one that the refresher does not compute.
        request(1, u64::MAX, key, &allowed),
        request(2, u64::MAX, key, &other),
        request(1, 0, key, &proxied),
        request(1, 0, key, &patient),
        // Longer than any request.
        request(1, 0, key, &" ".repeat(150_000)),
    ];
    let refused = || roles.status().unwrap().refused_requests();
    for (sent, message) in messages.iter().enumerate() {
        socket.send_to(message, &path).unwrap();
        until("it is refused", || refused() == sent as u64 + 1);
    }
    // Other users cannot even send, unless somebody lets them. What this one sends is right but for its user.
    let recipe = AssumeRole::new(arn_of(7)).session_name("test").region("us-east-1");
    let recipe = recipe.endpoint_url(sts.url());
    let key_of = roles.key_of(&recipe).unwrap();
    let words = key_of.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
    let key: [u64; 4] = words.collect::<Vec<_>>().try_into().unwrap();
    let right = request(1, 0, key, &allowed);
    let foreign = || {
        child(|_| {
            setgid(Gid::from_raw(65_534)).unwrap();
            setuid(Uid::from_raw(65_534)).unwrap();
            let socket = UnixDatagram::unbound().unwrap();
            let sent = socket.send_to(&right, &path);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(sent.is_ok(), mode & 0o077 != 0, "{sent:?}");
        })
        .finish()
    };
    if geteuid().is_root() {
        foreign();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        foreign();
        until("it is refused", || refused() == messages.len() as u64 + 1);
    }
    assert_eq!(refresher(&roles), pid, "it lives");
    assert!(open() <= before, "it keeps nothing: {before} {}", open());
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    let status = roles.status().unwrap();
    assert_eq!((assumed(&sts), status.entries().len(), status.takeovers_of_all()), (2, 2, 0));
    socket.send_to(&right, &path).unwrap();
    until("the same request of this user is obeyed", || assumed(&sts) == 3);
    // A generation that there is not yet counts as the newest one: one call, and later requests are heard.
    let role = roles.role(recipe).unwrap();
    until("it has a set", || role.status().unwrap().generation() == 1);
    socket.send_to(&request(2, u64::MAX, key, &allowed), &path).unwrap();
    until("it has another one", || role.status().unwrap().generation() == 2);
    role.refresh().unwrap();
    assert_eq!((assumed(&sts), role.status().unwrap().generation()), (5, 3));
}

/// The place of the socket is taken by another user: `create` says so, and leaves nothing.
pub fn a_squatted_socket_is_an_error() {
    if !geteuid().is_root() {
        return;
    }
    let pool_name = name("squatted");
    let files =
        ["", "@lock", "@ask"].map(|end| format!("/dev/shm/shmcreds-65534-{pool_name}{end}"));
    std::fs::write(&files[2], "").unwrap();
    let squatter = tempfile::TempPath::try_from_path(&files[2]).unwrap();
    let answer = child(|report| {
        setgid(Gid::from_raw(65_534)).unwrap();
        setuid(Uid::from_raw(65_534)).unwrap();
        let error = pool(&pool_name).refresh(Refresh::Eager).create().unwrap_err();
        report.say(error.to_string());
    })
    .finish();
    let left = files.each_ref().map(|file| std::path::Path::new(file).exists());
    drop(squatter);
    assert!(answer.contains("@ask is not a socket"), "{answer}");
    assert_eq!(left, [false, false, true]);
}

/// A process that asks for ever more roles uses up the budget, and no more. The queue of the refresher stays short.
pub fn a_flood_keeps_to_the_budget() {
    let sts = LocalSts::fork().unwrap();
    let roles =
        pool(&name("flood")).capacity(20).calls_per_second(50).refresh(Refresh::Eager).create();
    let roles = roles.unwrap();
    let began = Instant::now();
    let path = segment(roles.name()) + "@ask";
    let floods: Vec<_> = (0..2u64)
        .map(|flood| {
            let (path, sts, roles) = (&path, &sts, &roles);
            child(move |_| {
                let socket = UnixDatagram::unbound().unwrap();
                socket.connect(path).unwrap();
                let roles = SharedRoles::attach(roles.name()).unwrap();
                for number in 0..1000u64 {
                    socket.send(&request(1, 0, [number, flood, 1, 1], "{}")).unwrap();
                    if number % 20 == 0 {
                        let number = 100 + (flood * 100 + number / 20) as usize;
                        // It waits for the entry, not for the call.
                        roles.role(tenant(sts, number)).unwrap();
                    }
                }
            })
        })
        .collect();
    floods.into_iter().for_each(|flood| drop(flood.finish()));
    let allowed = 51.0 + 50.0 * began.elapsed().as_secs_f64();
    assert!(assumed(&sts) as f64 <= allowed, "{} {allowed}", assumed(&sts));
    // The last ones may still be in the socket.
    until("each message was refused", || roles.status().unwrap().refused_requests() >= 2000);
    let evictions = roles.status().unwrap().evictions();
    assert!(evictions > 60, "{evictions}");
    // Now a tenant gets its set as always, after at most the calls that are planned.
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
}

/// What was used since its last refresh is refreshed before it expires. The rest expires.
pub fn what_is_used_is_refreshed_ahead() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("ahead")).refresh_spread(0.0).clock(&clock).create().unwrap();
    let _refresher = running(&roles);
    let minutes = |minutes: u64| clock.advance(Duration::from_secs(60 * minutes));
    let read = |number| {
        let role = roles.role(tenant(&sts, number)).unwrap();
        assert_of(&role.credentials().unwrap(), number);
        role.status().unwrap()
    };
    (1..4).for_each(|number| drop(read(number)));
    assert_eq!(assumed(&sts), 3);
    minutes(10);
    assert_eq!(read(1).source_calls(), 1);
    // The advisory point is 15 minutes before the expiry. Nobody reads meanwhile.
    minutes(36);
    let generation =
        |number| roles.role(tenant(&sts, number)).unwrap().status().unwrap().generation();
    until("the role that was used is refreshed", || generation(1) == 2);
    assert_eq!(assumed(&sts), 4);
    minutes(10);
    assert_eq!(read(1).generation(), 2, "no reader waits");
    // A reader past the refresh point asks for its role.
    assert_eq!(read(2).generation(), 1);
    until("the role is refreshed for its reader", || generation(2) == 2);
    assert_eq!(assumed(&sts), 5);
    minutes(20);
    let states = |state| roles.status().unwrap().count(state);
    assert_eq!((states(State::Fresh), states(State::Expired)), (2, 1));
    assert_eq!(read(3).generation(), 2);
    assert_eq!(assumed(&sts), 6);
}

/// A process refreshes the roles that it has read before it was elected, without a reader at that time.
pub fn what_its_process_has_read_is_refreshed_ahead() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("own")).refresh_spread(0.0).clock(&clock).create().unwrap();
    let minutes = |minutes: u64| clock.advance(Duration::from_secs(60 * minutes));
    let role = |number| roles.role(tenant(&sts, number)).unwrap();
    let read = |number| assert_of(&role(number).credentials().unwrap(), number);
    let generation = |number| role(number).status().unwrap().generation();
    // One that is used, one that is not, one that has failed, one that has lost its entry, one without a call.
    (1..3).for_each(read);
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    assert!(role(3).credentials().is_err());
    read(4);
    assert!(roles.evict(&tenant(&sts, 4)).unwrap());
    let _fifth = role(5);
    assert_eq!(assumed(&sts), 4);
    minutes(10);
    read(1);
    let stop_it = StopHandle::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| roles.run_refresher(&stop_it));
        until("it is elected", || {
            roles.status().unwrap().refresher().is_some_and(LeaseHolder::is_alive)
        });
        assert_eq!(assumed(&sts), 4, "no role is fetched that nobody asks for");
        minutes(36);
        until("the role that was used is refreshed", || generation(1) == 2);
        stop_it.stop();
        running.join().unwrap().unwrap();
    });
    // Those that are due at the same time were looked at, too.
    assert_eq!((generation(2), assumed(&sts)), (1, 5));
}

/// A call that a reader began before the refresher was elected: its set is refreshed ahead of time, too.
pub fn a_set_of_a_call_before_it_is_refreshed_ahead() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("own-call")).refresh_spread(0.0).clock(&clock).create().unwrap();
    let role = roles.role(tenant(&sts, 1)).unwrap();
    sts.configure(Settings::new().latency(Duration::from_millis(700))).unwrap();
    let stop_it = StopHandle::new();
    thread::scope(|scope| {
        let reader = scope.spawn(|| assert_of(&role.credentials().unwrap(), 1));
        until("STS is asked", || assumed(&sts) == 1);
        let running = scope.spawn(|| roles.run_refresher(&stop_it));
        until("it is elected", || {
            roles.status().unwrap().refresher().is_some_and(LeaseHolder::is_alive)
        });
        reader.join().unwrap();
        for _ in 0..6 {
            clock.advance(Duration::from_secs(60));
            assert_of(&role.credentials().unwrap(), 1);
        }
        clock.advance(Duration::from_secs(40 * 60));
        until("it is refreshed", || role.status().unwrap().generation() == 2);
        stop_it.stop();
        running.join().unwrap().unwrap();
    });
    assert_eq!(assumed(&sts), 2);
}

/// Roles that came together are not refreshed together.
pub fn refreshes_are_spread() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("spread")).refresh(Refresh::Eager).create().unwrap();
    for number in 0..30 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    let status = roles.status().unwrap();
    let points: Vec<_> =
        status.entries().iter().map(|entry| entry.status().refresh_in().as_secs() / 60).collect();
    // They are anywhere between 30 and 45 minutes from now.
    assert!(points.iter().all(|point| (29..=45).contains(point)), "{points:?}");
    let (soonest, latest) = (points.iter().min().unwrap(), points.iter().max().unwrap());
    assert!(latest - soonest > 5, "{points:?}");
}

/// A deferred pool: what nobody reads is not refreshed, and costs no call.
pub fn in_a_deferred_pool_readers_refresh() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("deferred")).refresh_spread(0.0).clock(&clock).create().unwrap();
    let role = |number| roles.role(tenant(&sts, number)).unwrap();
    (1..3).for_each(|number| assert_of(&role(number).credentials().unwrap(), number));
    clock.advance(Duration::from_secs(46 * 60));
    assert_of(&role(1).credentials().unwrap(), 1);
    until("its reader refreshes it", || role(1).status().unwrap().generation() == 2);
    clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(role(1).status().unwrap().state(), State::Fresh);
    assert_eq!(role(2).status().unwrap().state(), State::Expired);
    assert_eq!(assumed(&sts), 3);
}
