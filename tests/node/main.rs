//! One session for a node: read by other users, and by processes in other namespaces. Most of it needs root.
#![allow(unsafe_code)]

mod asleep;
mod group;
mod namespaces;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/worlds.rs"]
mod worlds;

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use shmcreds::{SharedSession, SharedSessionBuilder};
use support::{assert_whole, instant};

/// Users and groups that nothing else on the machine has.
pub const OWNER: u32 = 61_237;
pub const MEMBER: u32 = 61_238;
pub const STRANGER: u32 = 61_239;
pub const GROUP: u32 = 61_240;

fn main() {
    let tests: &[(&'static str, fn())] = &[
        ("a_member_of_the_group_reads_and_waits", group::reads_and_waits),
        ("a_member_of_the_group_changes_nothing", group::changes_nothing),
        ("a_member_cannot_keep_a_waiter_asleep", asleep::who_waits_for_a_set),
        ("a_member_cannot_keep_a_standby_asleep", asleep::who_waits_to_be_elected),
        ("a_member_goes_on_with_the_next_session", group::goes_on_with_the_next_session),
        ("a_member_keeps_its_set_until_there_is_another", group::keeps_its_set),
        ("files_that_a_member_cannot_trust_are_refused", group::what_is_refused),
        ("settings_of_a_group_are_checked", group::settings_are_checked),
        ("a_holder_in_another_pid_namespace_is_waited_for", namespaces::a_holder_is_waited_for),
        ("a_dead_holder_in_another_pid_namespace", namespaces::a_dead_holder),
        ("a_stopped_holder_in_another_pid_namespace", namespaces::a_stopped_holder),
        ("an_owner_in_another_pid_namespace", namespaces::an_owner),
        ("another_boot_clock_is_refused", namespaces::another_boot_clock),
    ];
    if geteuid().is_root() {
        return support::run_forking(tests);
    }
    eprintln!("skipped: only root can become other users and enter namespaces");
    support::run_forking(&[("settings_of_a_group_are_checked", group::settings_are_checked)]);
}

/// A directory in memory, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(owner: u32, group: u32, mode: u32) -> Self {
        let folder = Folder(Path::new("/dev/shm").join(support::name("node")));
        fs::create_dir(&folder.0).unwrap();
        chown(&folder.0, Some(owner), Some(group)).unwrap();
        folder.set_mode(mode);
        folder
    }

    pub fn set_mode(&self, mode: u32) {
        fs::set_permissions(&self.0, Permissions::from_mode(mode)).unwrap();
    }

    pub fn file(&self, owner: u32, name: &str) -> PathBuf {
        self.0.join(format!("shmcreds-{owner}-{name}"))
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes this process one of the user `uid`, in the group of the same number and in `groups`.
pub fn become_user(uid: u32, groups: &[u32]) {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).unwrap();
    setgid(Gid::from_raw(uid)).unwrap();
    setuid(Uid::from_raw(uid)).unwrap();
}

pub fn builder(name: &str, folder: &Folder) -> SharedSessionBuilder {
    SharedSession::builder(name).directory(&folder.0)
}

/// A session that the group may read.
pub fn shared(name: &str, folder: &Folder) -> SharedSessionBuilder {
    builder(name, folder).source(instant()).group(GROUP)
}

pub fn key(session: &SharedSession) -> String {
    let set = session.credentials_within(support::LIMIT).unwrap();
    assert_whole(&set);
    set.access_key_id().to_owned()
}
