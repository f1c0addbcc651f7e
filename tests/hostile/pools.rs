//! The files of a pool of roles as a hostile process of the same user would leave them.

use std::{
    fs,
    sync::OnceLock,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use shmcreds::{
    AssumeRole, Provider, SharedRoles, SharedRolesBuilder, SharedSession,
    testing::{LocalSts, is_set_of},
};

use crate::{
    choices::Choices,
    files::{self, Template},
};

/// More than all calls together may take.
const LIMIT: Duration = Duration::from_secs(60);
const CAPACITY: usize = 8;
/// Tenants that have an entry in the template; another one has none.
const KNOWN: usize = 3;
/// The pool page, the index, and the lists of free entries and cells, which end before the first entry.
const POOL_PAGE: usize = 4096;
const INDEX: usize = 2 * 4096;
const ENTRIES: usize = 3 * 4096;
/// Bytes of an entry, and offsets in it: published, key, event, cells, election, failed, counters, claims, failures.
const ENTRY: usize = 1384;
const FIELDS: [usize; 12] = [0, 8, 32, 64, 72, 80, 128, 152, 192, 296, 376, 424];
/// The first small cell, and the bytes of one.
const CELLS: usize = 6 * 4096;
const CELL: usize = 2048;

/// The embedded STS, and the files of a healthy pool.
struct World {
    sts: LocalSts,
    template: Template,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let sts = LocalSts::start().unwrap();
        let name = files::unique("pool");
        let roles = pool(&name).capacity(CAPACITY).create().unwrap();
        for number in 0..KNOWN {
            let role = roles.role(tenant(&sts, number)).unwrap();
            assert_of(&role.credentials().unwrap(), number);
        }
        let [segment, locks] = files::paths(&name).map(|path| fs::read(path).unwrap());
        World { sts, template: Template { segment, locks } }
    })
}

fn pool(name: &str) -> SharedRolesBuilder {
    SharedRoles::builder(name)
        .base_source(Provider::new("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "base", None, None, "base")
        }))
        .allow("arn:aws:iam::*:role/tenant-*")
        .calls_per_second(100_000)
}

fn arn_of(number: usize) -> String {
    format!("arn:aws:iam::123456789012:role/tenant-{number}")
}

fn tenant(sts: &LocalSts, number: usize) -> AssumeRole {
    AssumeRole::new(arn_of(number))
        .session_name("test")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .max_attempts(1)
}

/// Panics when the set is not a whole one of that tenant.
fn assert_of(set: &Credentials, number: usize) {
    let arn = arn_of(number);
    let inputs = [("RoleArn", &*arn), ("RoleSessionName", "test")];
    assert!(is_set_of(set, &inputs), "a foreign or torn set for tenant {number}");
}

/// Changes words of the pool as `choices` say, or copies a part of it to another place.
fn damage(bytes: &mut Vec<u8>, choices: &mut Choices) {
    for _ in 0..choices.byte() % 8 {
        let place = |choices: &mut Choices| match choices.byte() % 6 {
            0 => 8 * choices.below(64),
            1 => POOL_PAGE + 128 * choices.below(6) + 8 * choices.below(5),
            2 => INDEX + 8 * choices.below((ENTRIES - INDEX) / 8),
            3 => ENTRIES + ENTRY * choices.below(CAPACITY) + choices.one(&FIELDS),
            4 => CELLS + CELL * choices.below(CAPACITY) + 8 * choices.below(16),
            _ => choices.below(bytes.len() / 8) * 8,
        };
        let at = place(choices);
        let new = match choices.byte() % 4 {
            0 => choices.bytes(255).to_vec(),
            1 => {
                let from = place(choices);
                let length = choices.one(&[8, 32, 64, ENTRY, CELL]);
                bytes[from..(from + length).min(bytes.len())].to_vec()
            }
            _ => choices.word().to_le_bytes().to_vec(),
        };
        for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
            *byte = new;
        }
    }
    if choices.yes() {
        files::seal_header(bytes);
    }
    files::change_length(bytes, choices);
}

/// Leaves the files of a pool as `data` says, and does with it all that a program can do. Records have no correct checksum
/// after a change, so each set must be the tenant's own.
pub fn attack(data: &[u8]) {
    let choices = &mut Choices::new(data);
    let World { sts, template } = world();
    let (mut segment, mut locks) = (template.segment.clone(), template.locks.clone());
    damage(&mut segment, choices);
    files::damage_locks(&mut locks, choices);
    let name = files::unique("pool");
    let paths = files::paths(&name);
    for (path, bytes) in paths.iter().zip([&segment, &locks]) {
        files::write(path, bytes);
    }
    let began = Instant::now();
    let builder = match choices.yes() {
        true => pool(&name).wait_timeout(Duration::from_millis(200)),
        false => SharedRoles::builder(&name).wait_timeout(Duration::from_millis(50)),
    };
    match builder.attach() {
        Ok(roles) => use_it(&roles, sts, choices),
        Err(error) => drop(format!("{error} {error:?}")),
    }
    let took = began.elapsed();
    assert!(took < LIMIT, "it took {took:?}");
    // What is left of it is not its business: nobody created it.
    let _ = SharedSession::remove(&name);
    for path in paths {
        let _ = fs::remove_file(path);
    }
}

/// The files as they were recorded are a pool with the sets of its tenants: what is attacked would work.
pub fn a_copy_works() {
    let World { sts, template } = world();
    let (name, calls) = (files::unique("pool"), sts.count("AssumeRole").unwrap());
    for (path, bytes) in files::paths(&name).iter().zip([&template.segment, &template.locks]) {
        files::write(path, bytes);
    }
    let roles = pool(&name).attach().unwrap();
    for number in 0..KNOWN {
        let role = roles.role(tenant(sts, number)).unwrap();
        assert_of(&role.credentials().unwrap(), number);
    }
    assert_eq!(sts.count("AssumeRole").unwrap(), calls, "their sets are in the copy");
    drop(roles);
    SharedSession::remove(&name).unwrap();
}

/// Calls everything that reads, and what writes.
fn use_it(roles: &SharedRoles, sts: &LocalSts, choices: &mut Choices) {
    look(roles);
    for _ in 0..6 {
        let number = choices.below(KNOWN + 2);
        if choices.byte() % 8 == 7 {
            let _ = roles.evict(&tenant(sts, number));
        }
        let role = match roles.role(tenant(sts, number)) {
            Ok(role) => role,
            Err(error) => {
                drop(format!("{error} {error:?}"));
                continue;
            }
        };
        let set = if choices.byte() % 4 == 3 { role.refresh() } else { role.credentials() };
        match set {
            Ok(set) => assert_of(&set, number),
            Err(error) => drop(format!("{error} {error:?}")),
        }
        drop(role.status().map(|status| format!("{status} {status:?}")));
    }
    look(roles);
}

fn look(roles: &SharedRoles) {
    if let Ok(status) = roles.status() {
        let text = format!("{status:?}");
        assert!(text.len() < 1 << 20, "a status without bound: {}", text.len());
    }
}
