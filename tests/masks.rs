//! The mask of a process (umask) decides nothing: files of a session have their own modes.
#![allow(unsafe_code)]

mod support;

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use aws_credential_types::Credentials;
use nix::{
    sys::stat::{Mode, umask},
    unistd::{Gid, Uid, geteuid, setgid, setuid},
};
use shmcreds::{AssumeRole, Provider, Refresh, SharedRoles, SharedRolesBuilder, SharedSession};
use support::{StopFile, assert_whole, child, instant, lock, name, segment, until};

/// The second and the third one let even the owner of a file do nothing with it.
const MASKS: [u32; 4] = [0, 0o077, 0o277, 0o777];
const NOBODY: u32 = 61_250;

fn main() {
    support::run_forking(&[
        ("a_session_has_its_modes", a_session_has_its_modes),
        ("a_session_in_a_chosen_directory", a_session_in_a_chosen_directory),
        ("a_pool_has_its_modes", a_pool_has_its_modes),
        ("what_was_left_without_a_mode_is_replaced", what_was_left_without_a_mode),
    ]);
}

/// Runs `work` with the mask, as a user whom modes bind, if this one may become another.
fn masked(mask: u32, work: impl FnOnce()) {
    child(|_| {
        if geteuid().is_root() {
            setgid(Gid::from_raw(NOBODY)).unwrap();
            setuid(Uid::from_raw(NOBODY)).unwrap();
        }
        umask(Mode::from_bits_truncate(mask));
        work();
    })
    .finish();
}

fn mode(path: &str) -> u32 {
    fs::symlink_metadata(path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .permissions()
        .mode()
        & 0o7777
}

/// Runs `make` while a process that inherits nothing of it waits for what it makes, and then attaches.
fn beside_a_stranger<T>(name: &str, attach: impl FnOnce(), make: impl FnOnce() -> T) -> T {
    let made = StopFile::new(&format!("{name}-made"));
    let stranger = child(|_| {
        until("it is made", || made.is_there());
        attach();
    });
    let kept = make();
    // The mask would be that of this file, too: it must only be there.
    made.end(vec![stranger]);
    kept
}

fn a_session_has_its_modes() {
    for mask in MASKS {
        for refresh in [Refresh::Deferred, Refresh::Eager] {
            masked(mask, || {
                let name = name("masked");
                let attach =
                    || assert_whole(&SharedSession::attach(&name).unwrap().credentials().unwrap());
                let session = beside_a_stranger(&name, attach, || {
                    let builder = SharedSession::builder(&name).source(instant()).refresh(refresh);
                    let session = builder.create().unwrap();
                    assert_whole(&session.credentials().unwrap());
                    session
                });
                for file in [segment(&name), lock(&name)] {
                    assert_eq!(mode(&file), 0o600, "{file} under the mask {mask:o}");
                }
                drop(session);
                until("the names are removed", || !Path::new(&segment(&name)).exists());
            });
        }
        masked(mask, || {
            let builder = SharedSession::builder(name("sealed")).source(instant());
            let session = builder.refresh(Refresh::Eager).sealed().create().unwrap();
            child(|_| {
                assert_whole(&SharedSession::attach(session.name()).unwrap().credentials().unwrap())
            })
            .finish();
        });
    }
}

fn a_session_in_a_chosen_directory() {
    for mask in MASKS {
        let folder = Path::new("/dev/shm").join(name("folder"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        if geteuid().is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let removed = Removed(folder.clone());
        masked(mask, || {
            let name = name("chosen");
            let builder = || SharedSession::builder(&name).source(instant()).directory(&folder);
            let attach = || assert_whole(&builder().attach().unwrap().credentials().unwrap());
            let session = beside_a_stranger(&name, attach, || builder().create().unwrap());
            let files: Vec<_> = fs::read_dir(&folder).unwrap().flatten().collect();
            assert_eq!(files.len(), 2);
            for file in files {
                assert_eq!(mode(file.path().to_str().unwrap()), 0o600, "under the mask {mask:o}");
            }
            drop(session);
        });
        drop(removed);
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pool(name: &str) -> SharedRolesBuilder {
    let base = Provider::new("base", || async {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", support::BASE_SECRET, None, None, "base")
    });
    SharedRoles::builder(name).base_source(base).allow("arn:aws:iam::*:role/tenant-*")
}

/// Workers without a base source ask the refresher on its socket.
fn a_pool_has_its_modes() {
    for mask in MASKS {
        let sts = shmcreds::testing::LocalSts::fork().unwrap();
        let role = || {
            let role = AssumeRole::new("arn:aws:iam::123456789012:role/tenant-1");
            role.session_name("test").region("us-east-1").endpoint_url(sts.url())
        };
        masked(mask, || {
            let name = name("pool");
            let attach = || {
                drop(
                    SharedRoles::attach(&name)
                        .unwrap()
                        .role(role())
                        .unwrap()
                        .credentials()
                        .unwrap(),
                )
            };
            let roles = beside_a_stranger(&name, attach, || {
                pool(&name).refresh(Refresh::Eager).create().unwrap()
            });
            for file in [segment(&name), lock(&name), segment(&name) + "@ask"] {
                assert_eq!(mode(&file), 0o600, "{file} under the mask {mask:o}");
            }
            drop(roles);
            until("the names are removed", || !Path::new(&segment(&name)).exists());
        });
    }
}

/// Its creator was killed before it could give the file its mode.
fn what_was_left_without_a_mode() {
    masked(0, || {
        let name = name("left");
        fs::write(lock(&name), "").unwrap();
        fs::set_permissions(lock(&name), Permissions::from_mode(0o400)).unwrap();
        let error = SharedSession::attach(&name).unwrap_err();
        if !geteuid().is_root() {
            assert!(error.to_string().contains("has mode 0400"), "{error}");
        }
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        assert_eq!(mode(&lock(&name)), 0o600);
        drop(session);
    });
}
