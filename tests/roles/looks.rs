//! What a pool tells about itself, and the verbs of a role that a session has, too.

use std::time::Duration;

use shmcreds::{
    AssumeRole, ErrorKind, SharedRoles,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    arn_of, assert_of, pool,
    support::{assumed, name, segment},
    tenant,
};

fn arns(roles: &SharedRoles) -> Vec<Option<String>> {
    let status = roles.status().unwrap();
    let mut arns: Vec<_> =
        status.entries().iter().map(|entry| entry.arn().map(str::to_owned)).collect();
    arns.sort();
    arns
}

pub fn the_status_tells_whose_entries() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("whose")).allow("arn:aws:iam::*:role/*").create().unwrap();
    let long = format!("arn:aws:iam::123456789012:role/{}app", "path/".repeat(90));
    let recipe = AssumeRole::new(&long).region("us-east-1").endpoint_url(sts.url());
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    roles.role(recipe).unwrap().credentials().unwrap();
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap_err();
    roles.role(tenant(&sts, 3)).unwrap();
    let own = [long.clone(), arn_of(1), arn_of(2), arn_of(3)].map(Some);
    let mut sorted = own.to_vec();
    sorted.sort();
    assert_eq!(arns(&roles), sorted);
    // Another process knows the roles that have sets.
    let other = SharedRoles::attach(roles.name()).unwrap();
    assert_eq!(arns(&other), [None, None, Some(long), Some(arn_of(1))]);
    // A large token leaves less for the ARN. The set is whole all the same.
    for bytes in [1_750, 16_384] {
        sts.configure(Settings::new().token_bytes(bytes)).unwrap();
        let set = roles.role(tenant(&sts, 1)).unwrap().refresh().unwrap();
        assert_eq!(set.account_id().map(|id| id.as_str()), Some("123456789012"));
        assert_of(&set, 1);
    }
    let key = *roles.role(tenant(&sts, 1)).unwrap().key();
    assert_eq!(roles.key_of(&tenant(&sts, 1)).unwrap(), key);
    assert_ne!(roles.key_of(&tenant(&sts, 9)).unwrap(), key);
    assert_eq!(roles.status().unwrap().entries().len(), 4, "a look for a key makes no entry");
}

pub fn counters_belong_to_a_role() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("counters")).capacity(1).create().unwrap();
    let calls = || roles.status().unwrap().entries()[0].status().source_calls();
    for number in 1..=3 {
        roles.role(tenant(&sts, number)).unwrap().credentials().unwrap();
        assert_eq!(calls(), 1, "the calls of the roles before are not its own");
        roles.role(tenant(&sts, number)).unwrap().refresh().unwrap();
        assert_eq!(calls(), 2);
    }
    let status = roles.status().unwrap();
    assert_eq!((status.source_calls(), status.evictions()), (6, 2));
    assert!((0.0..=1.0).contains(&status.budget_used()));
}

pub fn a_set_that_lasts() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("lasts")).clock(&clock).create().unwrap();
    let (one, two) = (roles.role(tenant(&sts, 1)).unwrap(), roles.role(tenant(&sts, 2)).unwrap());
    let first = one.credentials().unwrap();
    two.credentials().unwrap();
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    clock.advance(minutes(20));
    let kept = one.credentials_valid_for(minutes(30)).unwrap();
    assert_eq!(kept.credentials().access_key_id(), first.access_key_id());
    let new = one.credentials_valid_for(minutes(50)).unwrap();
    assert!(new.expires_in() >= minutes(50));
    assert_of(new.credentials(), 1);
    assert_eq!(assumed(&sts), 3, "the other role keeps its set");
    assert_eq!(two.status().unwrap().generation(), 1);
    let error = one.credentials_valid_for(minutes(61)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooShort);
    assert_eq!(assumed(&sts), 3);
}

pub fn who_has_left_is_no_user() {
    let name = name("left");
    let roles = pool(&name).removed_by_last_user().create().unwrap();
    assert!(std::path::Path::new(&segment(&name)).exists());
    let kept = roles.clone();
    roles.leave();
    assert!(!std::path::Path::new(&segment(&name)).exists());
    drop(kept);
}
