//! Where the files of a session are: directories that are chosen, those of the default order, and none at all.
#![allow(unsafe_code)]

mod support;
#[path = "support/worlds.rs"]
mod worlds;

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{mount::MsFlags, sys::signal::Signal, sys::statfs::statfs, unistd::geteuid};
use shmcreds::{ErrorKind, Refresh, SharedSession, SharedSessionBuilder};
use support::{assert_whole, child, instant, lives, name, until};
use worlds::{bind, own_mounts, tmpfs};

/// Makes this program one that was started by `exec`: the value is the session.
const STARTED: &str = "SHMCREDS_TEST_ATTACH";

fn main() {
    if let Ok(name) = std::env::var(STARTED) {
        let session = SharedSession::attach(name).unwrap();
        assert_whole(&session.credentials().unwrap());
        return println!("{}", session.status().unwrap());
    }
    support::run_forking(&[
        ("a_chosen_directory_has_the_session", a_chosen_directory),
        ("the_environment_chooses_a_directory", the_environment_chooses),
        ("a_directory_that_cannot_be_trusted_is_refused", a_directory_that_cannot_be_trusted),
        ("secrets_on_a_disk_are_refused_and_told_about", secrets_on_a_disk),
        ("without_a_directory_there_are_memory_files", without_a_directory),
        ("a_shared_memory_on_a_disk_is_refused", shared_memory_on_a_disk),
        ("a_runtime_directory_takes_the_place", a_runtime_directory),
        ("a_name_is_one_in_all_directories", a_name_is_one),
        ("what_is_left_and_cannot_be_removed_is_told", what_cannot_be_removed),
    ]);
}

/// A directory in memory, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(mode: u32) -> Self {
        let path = Path::new("/dev/shm").join(name("folder"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Folder(path)
    }

    fn entries(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn builder(name: &str) -> SharedSessionBuilder {
    SharedSession::builder(name).source(instant())
}

fn key(session: &SharedSession) -> String {
    let set = session.credentials().unwrap();
    assert_whole(&set);
    set.access_key_id().to_owned()
}

fn kind(made: Result<SharedSession, shmcreds::Error>) -> ErrorKind {
    let error = made.unwrap_err();
    assert!(!error.to_string().contains("os error"), "{error}");
    error.kind()
}

fn set_variable(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    // SAFETY: the child that calls this has one thread.
    unsafe { std::env::set_var(name, value) };
}

fn a_chosen_directory() {
    let (folder, name) = (Folder::new(0o700), name("chosen"));
    let start = support::StopFile::new(&support::name("start"));
    // A stranger: it does not inherit the session.
    let stranger = child(|report| {
        until("the session is there", || start.is_there());
        assert_eq!(kind(SharedSession::attach(&name)), ErrorKind::Absent);
        let session = builder(&name).directory(&folder.0).attach().unwrap();
        assert_eq!(session.status().unwrap().directory(), Some(&*folder.0));
        report.say(key(&session));
    });
    for refresh in [Refresh::Deferred, Refresh::Eager] {
        let session = builder(&name).directory(&folder.0).refresh(refresh).create().unwrap();
        assert_eq!(session.status().unwrap().directory(), Some(&*folder.0));
        assert_eq!(session.status().unwrap().disk(), None);
        assert_eq!(folder.entries(), 2);
        assert!(!Path::new(&support::segment(&name)).exists());
        // The same name in another directory is another session, and one process cannot tell the two apart.
        assert_eq!(kind(builder(&name).create()), ErrorKind::InUse);
        if refresh == Refresh::Eager {
            let said = start.end(vec![stranger]);
            assert_eq!(said, [key(&session)]);
            drop(session);
            until("nothing is left", || folder.entries() == 0);
            break;
        }
        drop(session);
        assert_eq!(folder.entries(), 0);
    }
}

fn the_environment_chooses() {
    let (folder, name) = (Folder::new(0o700), name("variable"));
    let path = folder.0.to_str().unwrap().to_owned() + "//";
    let mut killed = child(|report| {
        set_variable("SHMCREDS_DIR", &path);
        let session = builder(&name).create().unwrap();
        report.say(format!("{}\n", key(&session)));
        until("it is killed", || false);
    });
    let theirs = killed.hear_line();
    child(|_| {
        assert!(!SharedSession::list().unwrap().contains(&name));
        set_variable("SHMCREDS_DIR", &path);
        assert_eq!(SharedSession::list().unwrap(), [&*name]);
        assert_eq!(key(&SharedSession::attach(&name).unwrap()), theirs);
        assert_eq!(SharedSession::remove(&name).unwrap_err().kind(), ErrorKind::InUse);
    })
    .finish();
    killed.signal(Signal::SIGKILL);
    killed.reap();
    assert_eq!(folder.entries(), 2);
    child(|_| {
        set_variable("SHMCREDS_DIR", &path);
        SharedSession::remove(&name).unwrap();
    })
    .finish();
    assert_eq!(folder.entries(), 0);
    for wrong in ["relative", "/", "/dev/../dev/shm"] {
        child(|_| {
            set_variable("SHMCREDS_DIR", wrong);
            for made in [builder(&name).create(), SharedSession::attach(&name)] {
                let error = made.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                assert!(error.to_string().contains("SHMCREDS_DIR: "), "{error}");
            }
        })
        .finish();
    }
}

fn a_directory_that_cannot_be_trusted() {
    let folder = Folder::new(0o700);
    let inner = |what: &str| folder.0.join(what);
    fs::create_dir(inner("real")).unwrap();
    symlink(inner("real"), inner("link")).unwrap();
    fs::create_dir(inner("real/deep")).unwrap();
    fs::write(inner("file"), "").unwrap();
    let table = [
        (inner("missing"), ErrorKind::Misconfigured, "does not exist"),
        (inner("file"), ErrorKind::Misconfigured, "not a directory"),
        (inner("link"), ErrorKind::Misconfigured, "symbolic link"),
        (inner("link/deep"), ErrorKind::Misconfigured, "symbolic link"),
        (PathBuf::from("here"), ErrorKind::InvalidInput, "not absolute"),
        (PathBuf::from("/proc"), ErrorKind::Misconfigured, "proc (mounted at /proc)"),
    ];
    let refused = |path: &Path, expected: ErrorKind, text: &str| {
        let error = builder(&name("refused")).directory(path).create().unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(!error.to_string().contains("os error"), "{error}");
    };
    for (path, expected, text) in &table {
        refused(path, *expected, text);
    }
    for mode in [0o777, 0o720, 0o702] {
        fs::set_permissions(inner("real"), Permissions::from_mode(mode)).unwrap();
        refused(&inner("real"), ErrorKind::InsecureMode, "mode 07");
    }
    fs::set_permissions(inner("real"), Permissions::from_mode(0o1777)).unwrap();
    drop(builder(&name("sticky")).directory(inner("real")).create().unwrap());
    if geteuid().is_root() {
        chown(inner("real"), Some(12345), None).unwrap();
        refused(&inner("real"), ErrorKind::ForeignOwner, "uid 12345");
    }
    // A session in memory files has no directory.
    let sealed = builder(&name("sealed")).directory(&folder.0).refresh(Refresh::Eager).sealed();
    assert_eq!(kind(sealed.create()), ErrorKind::InvalidInput);
}

fn secrets_on_a_disk() {
    const TMPFS: i64 = 0x0102_1994;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name("disk"));
    let folder = Folder({
        fs::create_dir(&folder).unwrap();
        folder
    });
    let on_disk = statfs(&folder.0).unwrap().filesystem_type().0 != TMPFS;
    let name = name("disk");
    let made = builder(&name).directory(&folder.0).create();
    if !on_disk {
        return drop(made.unwrap());
    }
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    for word in ["(mounted at /", "SHMCREDS_DIR", "sealed"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(folder.entries(), 0);
    let allowed = builder(&name).directory(&folder.0).dangerously_keep_secrets_on_disk();
    let session = allowed.create().unwrap();
    drop(session.credentials().unwrap());
    let status = session.status().unwrap();
    assert!(status.disk().is_some_and(|disk| disk.contains("(mounted at /")), "{status}");
    assert!(status.to_string().contains("SECRETS ON A DISK"), "{status}");
    drop(session);
    let said = child(|report| {
        set_variable("SHMCREDS_DANGEROUS_SECRETS_ON_DISK", "1");
        assert_eq!(kind(builder(&name).directory(&folder.0).create()), ErrorKind::Misconfigured);
        set_variable("SHMCREDS_DANGEROUS_SECRETS_ON_DISK", "yes");
        report.say(key(&builder(&name).directory(&folder.0).create().unwrap()));
    });
    assert!(!said.finish().is_empty());
    assert_eq!(folder.entries(), 0);
}

/// Runs `work` in a child with mounts of its own and without a runtime directory, where that is allowed.
fn in_a_world(work: impl FnOnce()) {
    let said = child(|report| {
        if !own_mounts() {
            return report.say("not allowed here");
        }
        set_variable("XDG_RUNTIME_DIR", "/nowhere");
        if Path::new("/run/user").exists() {
            tmpfs("/run/user", MsFlags::empty(), "");
        }
        work();
        report.say("done");
    })
    .finish();
    assert!(said == "done" || said == "not allowed here", "{said}");
}

/// There is no directory, it is read-only, or it is full.
fn without_a_directory() {
    let worlds: [fn(); 3] = [
        || {
            // A `/dev` without a `shm`.
            tmpfs("/mnt", MsFlags::empty(), "");
            fs::write("/mnt/null", "").unwrap();
            bind("/dev/null", "/mnt/null");
            bind("/mnt", "/dev");
            nix::mount::umount2("/dev/null", nix::mount::MntFlags::MNT_DETACH).ok();
            bind("/mnt/null", "/dev/null");
        },
        || tmpfs("/dev/shm", MsFlags::MS_RDONLY, ""),
        || tmpfs("/dev/shm", MsFlags::empty(), "size=4k,mode=1777"),
    ];
    for world in worlds {
        for refresh in [Refresh::Deferred, Refresh::Eager] {
            in_a_world(|| {
                world();
                memory_files(refresh);
            });
        }
    }
}

fn memory_files(refresh: Refresh) {
    let name = name("nameless");
    let start = std::env::temp_dir().join(support::name("stranger"));
    let stranger = child(|_| {
        until("the session is there", || start.exists());
        assert_eq!(kind(SharedSession::attach(&name)), ErrorKind::Absent);
    });
    // Processes that find each other by the name cannot.
    let error = builder(&name).attach_or_create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("/dev/shm"), "{error}");
    assert!(error.to_string().contains("SHMCREDS_DIR"), "{error}");
    let session = builder(&name).refresh(refresh).create().unwrap();
    assert_eq!(kind(builder(&name).create()), ErrorKind::InUse);
    fs::write(&start, "").unwrap();
    stranger.finish();
    fs::remove_file(&start).unwrap();
    let first = key(&session);
    let status = session.status().unwrap();
    assert_eq!((status.directory(), status.disk()), (None, None));
    assert!(status.to_string().contains("in memory files, without a name"), "{status}");
    child(|_| {
        let worker = SharedSession::attach(&name).unwrap();
        assert_eq!(key(&worker), first);
        assert_ne!(worker.refresh().unwrap().access_key_id(), first);
        assert_eq!(worker.status().unwrap().source_calls(), 2);
    })
    .finish();
    if refresh == Refresh::Eager {
        // A worker goes on in the place of the refresher.
        let refresher = support::elected(&session).unwrap();
        nix::sys::signal::kill(refresher, Signal::SIGKILL).unwrap();
        until("it is dead", || !lives(refresher));
    }
    child(|_| {
        let worker = SharedSession::attach(&name).unwrap();
        assert!(worker.refresh().is_ok());
    })
    .finish();
    let mut program = Command::new(std::env::current_exe().unwrap());
    session.pass_to(&mut program).unwrap();
    let output = program.env(STARTED, &name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("without a name"), "{output:?}");
}

fn shared_memory_on_a_disk() {
    in_a_world(|| {
        let disk = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name("shm"));
        fs::create_dir(&disk).unwrap();
        let on_disk = statfs(&disk).unwrap().filesystem_type().0 != 0x0102_1994;
        bind(disk.to_str().unwrap(), "/dev/shm");
        if on_disk {
            let name = name("disk");
            for made in [builder(&name).create(), builder(&name).attach_or_create()] {
                let error = made.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
                assert!(error.to_string().contains("(mounted at /dev/shm)"), "{error}");
            }
            assert!(key(&builder(&name).name_is_optional().create().unwrap()).len() > 1);
            assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "nothing is on the disk");
        }
        nix::mount::umount2("/dev/shm", nix::mount::MntFlags::MNT_DETACH).unwrap();
        fs::remove_dir(&disk).unwrap();
    });
}

/// `/dev/shm` is read-only. The directory of the user is found without talking.
fn a_runtime_directory() {
    in_a_world(|| {
        tmpfs("/dev/shm", MsFlags::MS_RDONLY, "");
        tmpfs("/mnt", MsFlags::empty(), "mode=0700");
        set_variable("XDG_RUNTIME_DIR", "/mnt");
        let name = name("runtime");
        let start = std::env::temp_dir().join(support::name("runtime"));
        let stranger = child(|report| {
            until("the session is there", || start.exists());
            let session = SharedSession::attach(&name).unwrap();
            assert_eq!(session.status().unwrap().directory(), Some(Path::new("/mnt")));
            report.say(key(&session));
        });
        let session = builder(&name).attach_or_create().unwrap();
        let first = key(&session);
        fs::write(&start, "").unwrap();
        assert_eq!(stranger.finish(), first);
        fs::remove_file(&start).unwrap();
        assert_eq!(SharedSession::list().unwrap(), [&*name]);
        drop(session);
        assert_eq!(fs::read_dir("/mnt").unwrap().count(), 0);
        // Others could use it: it is not taken.
        fs::set_permissions("/mnt", Permissions::from_mode(0o755)).unwrap();
        assert_eq!(kind(builder(&name).attach_or_create()), ErrorKind::NoSpace);
    });
}

/// The first directory becomes usable while a session is in the second.
fn a_name_is_one() {
    in_a_world(|| {
        tmpfs("/mnt", MsFlags::empty(), "mode=0700");
        set_variable("XDG_RUNTIME_DIR", "/mnt");
        let name = name("one");
        let [ready, end] =
            ["ready", "end"].map(|what| support::StopFile::new(&support::name(what)));
        // It does not inherit the session.
        let other = child(|_| {
            until("the session is there", || ready.is_there());
            tmpfs("/dev/shm", MsFlags::empty(), "mode=1777");
            assert_eq!(kind(builder(&name).create()), ErrorKind::InUse);
            let theirs = builder(&name).attach();
            assert_eq!(kind(theirs), ErrorKind::WrongSource, "that of the other source");
            end.write();
        });
        tmpfs("/dev/shm", MsFlags::MS_RDONLY, "");
        let source = shmcreds::Provider::new("another", || async { support::instant_set() });
        let session = SharedSession::builder(&name).source(source).create().unwrap();
        ready.write();
        until("it was looked for", || end.is_there());
        other.finish();
        let second = SharedSession::attach(&name).unwrap();
        assert_eq!(key(&second), key(&session));
    });
}

/// Before, `create` tried to remove it for ever.
fn what_cannot_be_removed() {
    in_a_world(|| {
        tmpfs("/mnt", MsFlags::empty(), "mode=0700");
        let name = name("left");
        let file = format!("/mnt/shmcreds-{}-{name}@lock", geteuid());
        fs::write(&file, [0; 4096]).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        // Root may write the file and not remove it.
        fs::set_permissions("/mnt", Permissions::from_mode(0o500)).unwrap();
        if geteuid().is_root() {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            nix::mount::mount(None::<&str>, "/mnt", None::<&str>, flags, None::<&str>).unwrap();
        }
        let made = builder(&name).directory("/mnt").create();
        let error = made.unwrap_err();
        assert!(error.to_string().contains("/mnt/"), "{error}");
        assert!(!error.to_string().contains("os error"), "{error}");
    });
}
