//! Entries: who has one, who loses it, what it takes.

use std::{os::unix::fs::MetadataExt, time::Duration};

use aws_credential_types::Credentials;
use shmcreds::{
    ErrorKind, Provider, SharedRoles, SharedSession, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    assert_of, pool,
    support::{self, StopFile, assumed, child, name, until},
    tenant,
};

pub fn each_tenant_gets_its_own_set() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("own")).create().unwrap();
    for number in 0..50 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    for number in 0..50 {
        let role = roles.role(tenant(&sts, number)).unwrap();
        assert_of(&role.credentials().unwrap(), number);
        assert_of(role.reader().credentials().unwrap(), number);
        assert_eq!(role.status().unwrap().state(), State::Fresh);
    }
    assert_eq!(assumed(&sts), 50);
    let status = roles.status().unwrap();
    assert_eq!((status.entries().len(), status.count(State::Fresh)), (50, 50));
    assert_eq!((status.insertions(), status.evictions(), status.rebuilds()), (50, 0, 0));
    // One role with two external ids is two roles.
    let other = roles.role(tenant(&sts, 1).external_id("tenant-other")).unwrap();
    let (one, other) = (roles.role(tenant(&sts, 1)).unwrap(), other.credentials().unwrap());
    assert_ne!(one.credentials().unwrap().access_key_id(), other.access_key_id());
}

pub fn one_call_for_all_processes() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("calls")).create().unwrap();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            child(|_| {
                let roles = SharedRoles::attach(roles.name()).unwrap();
                for step in 0..40 {
                    let number = (step * 7 + worker) % 40;
                    let role = roles.role(tenant(&sts, number)).unwrap();
                    assert_of(&role.credentials().unwrap(), number);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| drop(worker.finish()));
    assert_eq!(assumed(&sts), 40);
    assert_eq!(roles.status().unwrap().insertions(), 40);
}

pub fn what_is_not_allowed() {
    let sts = LocalSts::fork().unwrap();
    let name = name("allowed");
    let roles = pool(&name).create().unwrap();
    let admin = shmcreds::AssumeRole::new("arn:aws:iam::123456789012:role/admin");
    let error = roles.role(admin).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAllowed);
    assert!(error.to_string().contains("arn:aws:iam::*:role/tenant-*"), "{error}");
    let error = SharedRoles::builder(&name).base_source(crate::base()).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("allow: no pattern"), "{error}");
    // Who attaches finds the patterns of the pool.
    let attached = SharedRoles::builder(&name).allow("arn:aws:iam::*:role/*").attach().unwrap();
    let admin = shmcreds::AssumeRole::new("arn:aws:iam::123456789012:role/admin");
    assert_eq!(attached.role(admin).unwrap_err().kind(), ErrorKind::NotAllowed);
    let other = pool(&name).allow("arn:aws:iam::*:role/other").attach_or_create().unwrap_err();
    assert_eq!(other.kind(), ErrorKind::WrongSource);
    assert_of(&attached.role(tenant(&sts, 3)).unwrap().credentials().unwrap(), 3);
    for (builder, field) in [
        (pool(&name).capacity(0), "capacity: is 0"),
        (pool(&name).capacity(16_001), "capacity: is 16001"),
        (pool(&name).calls_per_second(0), "calls_per_second: is 0"),
        (pool(&name).allow("tenant-*"), "allow: \"tenant-*\""),
    ] {
        let error = builder.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(field), "{error}");
    }
}

pub fn the_least_recently_used_goes() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("lru")).capacity(4).clock(&clock).create().unwrap();
    let use_role = |number| {
        clock.advance(Duration::from_secs(60));
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    };
    (0..4).for_each(use_role);
    use_role(0);
    use_role(4);
    assert_eq!(assumed(&sts), 5, "1 was used least recently");
    [0, 2, 3, 4].into_iter().for_each(use_role);
    assert_eq!(assumed(&sts), 5, "the others have their sets");
    use_role(1);
    assert_eq!(assumed(&sts), 6);
    let status = roles.status().unwrap();
    assert_eq!((status.entries().len(), status.evictions()), (4, 2));
}

/// All entries are being refreshed.
pub fn a_pool_is_full() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("full")).capacity(2).create().unwrap();
    sts.inject(Fault::BlackHole, Times::Next(2)).unwrap();
    let busy: Vec<_> = (0..2)
        .map(|number| {
            let sts = &sts;
            let roles = &roles;
            child(move |_| drop(roles.role(tenant(sts, number)).unwrap().credentials()))
        })
        .collect();
    until("both call STS", || assumed(&sts) == 2);
    let error = roles.role(tenant(&sts, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.is_retryable());
    assert_eq!(roles.status().unwrap().refusals(), 1);
    drop(busy);
    // Their processes are gone: so are their claims.
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
}

pub fn an_evicted_role_comes_back() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("evicted")).create().unwrap();
    let role = roles.role(tenant(&sts, 1)).unwrap();
    let (mut reader, first) = (role.reader(), role.credentials().unwrap());
    let mut worker = child(|report| {
        let role = SharedRoles::attach(roles.name()).unwrap().role(tenant(&sts, 1)).unwrap();
        assert_eq!(role.credentials().unwrap().access_key_id(), first.access_key_id());
        report.say(".");
        until("the worker sees the eviction", || {
            let set = role.credentials().unwrap();
            assert_of(&set, 1);
            set.access_key_id() != first.access_key_id()
        });
    });
    worker.hear();
    assert!(roles.evict(&tenant(&sts, 1)).unwrap());
    assert!(!roles.evict(&tenant(&sts, 7)).unwrap(), "the pool does not have it");
    // Another role gets the entry.
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    assert_of(reader.credentials().unwrap(), 1);
    let again = role.credentials().unwrap();
    assert_of(&again, 1);
    assert_ne!(again.access_key_id(), first.access_key_id());
    assert_eq!(reader.credentials().unwrap().access_key_id(), again.access_key_id());
    let asked = roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap();
    assert_eq!(asked.access_key_id(), again.access_key_id());
    worker.finish();
    assert_eq!(assumed(&sts), 3);
}

pub fn large_tokens() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("large")).capacity(8).create().unwrap();
    for (bytes, number) in [(8000, 0), (100, 0), (1700, 0), (16_384, 0), (1, 0), (16_000, 1)] {
        sts.configure(Settings::new().token_bytes(bytes)).unwrap();
        let set = roles.role(tenant(&sts, number)).unwrap().refresh().unwrap();
        assert_eq!(set.session_token().unwrap().len(), bytes);
        assert_of(&set, number);
    }
    sts.configure(Settings::new().token_bytes(20_000)).unwrap();
    let error = roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap_err();
    let says = "SessionToken has 20000 bytes; the largest cell of a pool holds 16384";
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TooLarge, false));
    // Each process is told so.
    let other = SharedRoles::attach(roles.name()).unwrap().role(tenant(&sts, 2)).unwrap();
    assert_eq!(other.credentials().unwrap_err().kind(), ErrorKind::TooLarge);
    // Cells are given back: 40 refreshes with a large set each do not use them up.
    sts.configure(Settings::new().token_bytes(9000)).unwrap();
    for _ in 0..40 {
        assert_of(&roles.role(tenant(&sts, 3)).unwrap().refresh().unwrap(), 3);
    }
}

/// Nothing of a set is left in the pool when another one has taken its place, or when its role has lost the entry.
pub fn old_sets_are_wiped() {
    let sts = LocalSts::fork().unwrap();
    let name = name("wiped");
    let roles = pool(&name).capacity(4).create().unwrap();
    let has = |text: &str| {
        let bytes = std::fs::read(support::segment(&name)).unwrap();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    let secrets = |set: &Credentials| {
        [set.access_key_id(), set.secret_access_key(), set.session_token().unwrap()]
            .map(str::to_owned)
    };
    let role = roles.role(tenant(&sts, 1)).unwrap();
    // One set in a small cell, and one in a large cell.
    for bytes in [800, 9000] {
        sts.configure(Settings::new().token_bytes(bytes)).unwrap();
        let [id, secret, token] = secrets(&role.refresh().unwrap());
        assert!(has(&id) && has(&secret) && has(&token), "the search finds what is there");
        let new = secrets(&role.refresh().unwrap());
        // The process that has published the new one wipes the old one next.
        until("the old set is wiped", || !has(&id) && !has(&token));
        assert!(new.iter().all(|text| has(text)));
        // The entry is free again when the call has ended.
        until("the entry is free", || roles.evict(&tenant(&sts, 1)).unwrap());
        assert!(!new.iter().any(|text| has(text)), "the set of a role without an entry is left");
    }
}

pub fn a_pool_and_a_session() {
    let sts = LocalSts::fork().unwrap();
    let name = name("both");
    let roles = pool(&name).create().unwrap();
    let error = SharedSession::attach(&name).unwrap_err();
    assert!(error.to_string().contains("SharedRoles::attach"), "{error}");
    let session = SharedSession::builder(&name).source(support::role(&sts));
    assert_eq!(session.create().unwrap_err().kind(), ErrorKind::InUse);
    drop(roles);
    let session = SharedSession::builder(&name).source(support::role(&sts)).create().unwrap();
    let error = SharedRoles::attach(session.name()).unwrap_err();
    assert!(error.to_string().contains("SharedSession::attach"), "{error}");
}

/// The base source is in no key: a process with another one would take sets that the roles do not give to it.
pub fn another_base_source_is_refused() {
    let sts = LocalSts::fork().unwrap();
    let name = name("bases");
    let roles = pool(&name).create().unwrap();
    let other = || {
        let base = Provider::new("other", || async {
            Credentials::new("AKIAIOSFODNN7OTHER", support::BASE_SECRET, None, None, "other")
        });
        pool(&name).base_source(base)
    };
    assert_eq!(other().attach().unwrap_err().kind(), ErrorKind::WrongSource);
    assert_eq!(other().attach_or_create().unwrap_err().kind(), ErrorKind::WrongSource);
    let same = pool(&name).attach().unwrap();
    assert_of(&same.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    assert_eq!(assumed(&sts), 1);
}

pub fn memory_is_taken_in_steps() {
    let sts = LocalSts::fork().unwrap();
    let name = name("steps");
    let roles = pool(&name).capacity(10_000).create().unwrap();
    let taken = || std::fs::metadata(support::segment(&name)).unwrap().blocks() * 512;
    assert!(taken() < 1 << 20, "{}", taken());
    for number in 0..10 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    assert!(taken() < 4 << 20, "{}", taken());
    drop(roles);
    assert!(!std::path::Path::new(&support::segment(&name)).exists());
    assert!(!std::path::Path::new(&support::lock(&name)).exists());
}

pub fn a_process_without_a_source_reads() {
    let sts = LocalSts::fork().unwrap();
    let name = name("reader");
    let (sts_ref, pool_name) = (&sts, name.clone());
    // Forked before, it does not inherit the source.
    let mut reader = child(move |report| {
        until("there is a pool", || SharedRoles::attach(&pool_name).is_ok());
        let roles = SharedRoles::attach(&pool_name).unwrap();
        let error = roles.role(tenant(sts_ref, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSource, "{error}");
        report.say(".");
        until("the set is there", || roles.role(tenant(sts_ref, 1)).is_ok());
        assert_of(&roles.role(tenant(sts_ref, 1)).unwrap().credentials().unwrap(), 1);
    });
    let roles = pool(&name).create().unwrap();
    reader.hear();
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    reader.finish();
}

/// The entry of a role that such a process holds goes to another role. Later it gets the role's set again.
pub fn a_process_without_a_source_loses_an_entry() {
    let sts = LocalSts::fork().unwrap();
    let name = name("loses");
    let (sts_ref, pool_name) = (&sts, name.clone());
    let lost = StopFile::new(&name);
    let mut reader = child(|report| {
        until("there is a pool", || SharedRoles::attach(&pool_name).is_ok());
        let roles = SharedRoles::attach(&pool_name).unwrap();
        until("the set is there", || roles.role(tenant(sts_ref, 1)).is_ok());
        let role = roles.role(tenant(sts_ref, 1)).unwrap();
        until("the set is there", || role.credentials().is_ok());
        report.say(".");
        until("another role has the entry, and its set", || lost.is_there());
        let error = role.credentials().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSource, "{error}");
        report.say(".");
        until("it has an entry again", || role.credentials().is_ok());
        assert_of(&role.credentials().unwrap(), 1);
    });
    let roles = pool(&name).capacity(1).create().unwrap();
    let fetch = |number| {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    };
    fetch(1);
    reader.hear();
    fetch(2);
    lost.write();
    reader.hear();
    fetch(1);
    reader.finish();
}

pub fn a_child_inherits_its_roles() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("inherits")).create().unwrap();
    let role = roles.role(tenant(&sts, 1)).unwrap();
    child(|_| {
        assert_of(&role.credentials().unwrap(), 1);
        assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    })
    .finish();
    assert_of(&role.credentials().unwrap(), 1);
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    assert_eq!(assumed(&sts), 2);
}

pub fn rotation_and_rejection() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("rotation")).clock(&clock).create().unwrap();
    let role = roles.role(tenant(&sts, 1)).unwrap();
    let first = role.credentials().unwrap();
    // Past the advisory point: the set comes at once, and is refreshed in the background.
    clock.advance(Duration::from_secs(50 * 60));
    assert_of(&role.credentials().unwrap(), 1);
    until("it is refreshed", || {
        role.credentials().unwrap().access_key_id() != first.access_key_id()
    });
    clock.advance(Duration::from_secs(10));
    let second = role.credentials().unwrap();
    assert!(role.invalidate(second.access_key_id()).unwrap());
    let third = role.credentials().unwrap();
    assert_of(&third, 1);
    assert_ne!(third.access_key_id(), second.access_key_id());
    assert_ne!(role.refresh().unwrap().access_key_id(), third.access_key_id());
    assert_eq!(assumed(&sts), 4);
    assert_eq!(role.status().unwrap().generation(), 4);
}
