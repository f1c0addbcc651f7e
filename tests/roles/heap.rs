//! The memory of a process that holds roles.

use std::hint::black_box;

use aws_credential_types::{Credentials, provider::ProvideCredentials};
use shmcreds::{RoleSession, SharedRoles, testing::LocalSts};

use crate::{
    assert_of,
    counted::{allocations, bytes},
    pool,
    support::{child, name},
    tenant,
};

/// A worker with 10,000 roles takes 2 MB at most, besides the sets that it has read.
const MOST: usize = 2_000_000 / 10_000;
/// So many that a table of them is as full as one of 10,000.
const ROLES: usize = 40;
/// How many of them get new sets.
const RENEWED: usize = 8;

/// The versions and the points in time of a set, beside the SDK's credentials.
const OF_A_COPY: usize = size_of::<[u64; 15]>();

/// What one set takes in a process that has read it.
fn bytes_of(set: &Credentials) -> usize {
    let before = bytes();
    let mut copy = Credentials::builder()
        .access_key_id(set.access_key_id())
        .secret_access_key(set.secret_access_key())
        .expiry(set.expiry().unwrap())
        .provider_name("test");
    copy.set_session_token(set.session_token().map(str::to_owned));
    copy.set_account_id(set.account_id().cloned());
    let copy = copy.build();
    let taken = bytes() - before;
    drop(copy);
    taken + OF_A_COPY
}

/// Checks that a process which has taken `taken` bytes for `count` roles holds no more than it may.
fn assert_small(what: &str, taken: usize, count: usize) {
    let each = taken / count;
    assert!(each <= MOST, "{what}: {each} bytes for each role; at most {MOST} are allowed");
}

/// What the roles of a worker take: before it has read a set, and after.
pub fn a_role_takes_few_bytes() {
    let (name, sts) = (name("roles-heap"), LocalSts::fork().unwrap());
    let creator = pool(&name).capacity(ROLES).create().unwrap();
    let ask = |roles: &SharedRoles, held: &mut Vec<RoleSession>| {
        let all = (0..ROLES).map(|number| roles.role(tenant(&sts, number)).unwrap());
        held.extend(all);
    };
    let read = |held: &[RoleSession]| {
        for (number, role) in held.iter().enumerate() {
            assert_of(&role.credentials().unwrap(), number);
        }
    };
    // This one fetches all sets itself, and then has no more than a worker that only reads.
    child(|_| {
        let mut held = Vec::with_capacity(ROLES);
        // What the first read of a process takes once.
        drop(creator.role(tenant(&sts, 0)).unwrap().credentials().unwrap());
        let before = bytes();
        ask(&creator, &mut held);
        read(&held);
        let sets: usize = held.iter().map(|role| bytes_of(&role.credentials().unwrap())).sum();
        assert_small("after fetching", (bytes() - before).saturating_sub(sets), ROLES);
    })
    .finish();
    child(|_| {
        let roles = SharedRoles::attach(&name).unwrap();
        let mut held = Vec::with_capacity(ROLES);
        let before = bytes();
        ask(&roles, &mut held);
        assert_small("before reading", bytes() - before, ROLES);
        read(&held);
        let sets: usize = held.iter().map(|role| bytes_of(&role.credentials().unwrap())).sum();
        let after_reading = bytes() - before;
        assert!(after_reading > sets, "{after_reading} with {sets} of the sets");
        assert_small("after reading", after_reading - sets, ROLES);
        let all = |role: &RoleSession| {
            role.status().unwrap();
            role.snapshot().unwrap().unwrap();
            role.refresh().unwrap();
        };
        // What the first call of a process takes once.
        all(&held[0]);
        let before = bytes();
        held[1..=RENEWED].iter().for_each(all);
        read(&held);
        let grown = bytes().saturating_sub(before) / RENEWED;
        assert!(grown < 8, "the state and a new set leave {grown} bytes for each role");
    })
    .finish();
    drop(creator);
}

/// What a role takes goes with it, also the session of a role that an SDK client has.
pub fn roles_that_come_and_go_leave_nothing() {
    let (name, sts) = (name("roles-come-and-go"), LocalSts::fork().unwrap());
    let creator = pool(&name).create().unwrap();
    child(|_| {
        let cycle = || {
            let roles = SharedRoles::attach(&name).unwrap();
            let role = roles.role(tenant(&sts, 1)).unwrap();
            let provider = role.credentials_provider();
            assert_of(&role.credentials().unwrap(), 1);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let provided = runtime.unwrap().block_on(provider.provide_credentials());
            assert_of(&provided.unwrap(), 1);
            assert!(role.snapshot().unwrap().is_some());
        };
        cycle();
        let before = bytes();
        (0..10).for_each(|_| cycle());
        assert_eq!(bytes(), before, "bytes are left of roles that are gone");
    })
    .finish();
    drop(creator);
}

/// A role that is known and fresh is read without an allocation: also when the clock has moved on since.
pub fn a_known_role_is_read_without_an_allocation() {
    let (name, sts) = (name("roles-allocations"), LocalSts::fork().unwrap());
    let creator = pool(&name).create().unwrap();
    child(|_| {
        let read = |role: &RoleSession| drop(black_box(role.credentials().unwrap()));
        let recipe = || tenant(&sts, 1).tag("tenant", "one");
        let role = creator.role(recipe()).unwrap();
        read(&role);
        let recipes: Vec<_> = (0..1000).map(|_| recipe()).collect();
        let before = allocations();
        for recipe in recipes {
            read(&creator.role(recipe).unwrap());
        }
        assert_eq!(allocations() - before, 0, "allocations of 1000 roles and reads");
        // A first read: the set, and the process's place for it.
        let roles = SharedRoles::attach(&name).unwrap();
        let other = roles.role(recipe()).unwrap();
        let before = allocations();
        read(&other);
        let made = allocations() - before;
        assert!(made <= 6, "{made} allocations of a first read");
    })
    .finish();
    drop(creator);
}
