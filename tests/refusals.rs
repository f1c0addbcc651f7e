//! What is refused: segments that cannot be trusted, and inputs that break a rule.

mod support;

use std::{
    fs::{File, OpenOptions, Permissions},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::Path,
    time::Duration,
};

use aws_credential_types::Credentials;
use shmcreds::{AssumeRole, ErrorKind, Provider, SharedSession};
use support::{instant, lock, name, segment};

fn file(path: &str) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Writes the checksum of the header and the description anew.
fn seal(file: &File) {
    let mut words = [0; 136];
    file.read_exact_at(&mut words, 8).unwrap();
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 512).unwrap();
    let mut description = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact_at(&mut description, 520).unwrap();
    let sum = crc32fast::hash(&[&words[..], &description].concat());
    file.write_all_at(&u64::from(sum).to_le_bytes(), 144).unwrap();
}

/// Changes a byte that may be any.
fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

#[test]
fn attach_refuses_each_damage_with_its_own_error() {
    type Damage = fn(&str);
    let table: [(ErrorKind, Damage, &str); 12] = [
        (ErrorKind::WrongMagic, |p| file(p).write_all_at(b"NOTCREDS", 0).unwrap(), "0x"),
        (ErrorKind::Uninitialized, |p| file(p).write_all_at(&[0; 8], 0).unwrap(), "not finished"),
        (ErrorKind::WrongVersion, |p| file(p).write_all_at(&[9], 8).unwrap(), "version 9"),
        (ErrorKind::BadChecksum, |p| flip(&file(p), 64), "checksum"),
        (
            ErrorKind::WrongVersion,
            |p| {
                file(p).write_all_at(&[1], 16).unwrap();
                seal(&file(p));
            },
            "sizes",
        ),
        (ErrorKind::TooSmall, |p| file(p).set_len(100).unwrap(), "100 bytes"),
        (ErrorKind::TooSmall, |p| file(p).set_len(8192).unwrap(), "8192 bytes"),
        (ErrorKind::Uninitialized, |p| file(p).set_len(0).unwrap(), "empty"),
        (
            ErrorKind::InsecureMode,
            |p| std::fs::set_permissions(p, Permissions::from_mode(0o640)).unwrap(),
            "0640",
        ),
        (
            ErrorKind::InsecureMode,
            |p| std::fs::set_permissions(p, Permissions::from_mode(0o602)).unwrap(),
            "0602",
        ),
        (
            ErrorKind::NotAFile,
            |p| {
                std::fs::rename(p, format!("{p}.moved")).unwrap();
                symlink(format!("{p}.moved"), p).unwrap();
            },
            "not a regular file",
        ),
        (ErrorKind::Absent, |p| std::fs::remove_file(p).unwrap(), "no session"),
    ];
    for (kind, damage, text) in table {
        let name = name("damage");
        let path = segment(&name);
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        // Another process of the same user made it, as far as `attach` can tell.
        std::mem::forget(session);
        let name = as_a_stranger_sees_it(&name);
        let path = path.replace(&name.0, &name.1);
        damage(&path);
        let error = SharedSession::attach(&name.1).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        for left in [&path, &format!("{path}.moved"), &lock(&name.1), &segment(&name.0)] {
            let _ = std::fs::remove_file(left);
        }
        let _ = std::fs::remove_file(lock(&name.0));
    }
}

#[test]
fn attach_refuses_each_damage_of_the_lock_file() {
    type Damage = fn(&str);
    let table: [(ErrorKind, Damage, &str); 4] = [
        (
            ErrorKind::InsecureMode,
            |p| std::fs::set_permissions(p, Permissions::from_mode(0o604)).unwrap(),
            "0604",
        ),
        (
            ErrorKind::NotAFile,
            |p| {
                std::fs::remove_file(p).unwrap();
                symlink("/dev/null", p).unwrap();
            },
            "not a regular file",
        ),
        (ErrorKind::TooSmall, |p| file(p).set_len(100).unwrap(), "100 bytes"),
        (ErrorKind::Absent, |p| std::fs::remove_file(p).unwrap(), "no session"),
    ];
    for (kind, damage, text) in table {
        let name = name("lock-damage");
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        let (_, copy) = as_a_stranger_sees_it(&name);
        damage(&lock(&copy));
        let error = SharedSession::attach(&copy).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        let _ = (std::fs::remove_file(lock(&copy)), std::fs::remove_file(segment(&copy)));
        drop(session);
    }
}

/// As a process leaves it that uses an older version of the library, and was killed.
#[test]
fn a_segment_of_another_version_is_refused_and_replaced() {
    let name = name("version");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let (_, copy) = as_a_stranger_sees_it(&name);
    drop(session);
    file(&segment(&copy)).write_all_at(&[1], 8).unwrap();
    let error = SharedSession::attach(&copy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongVersion, "{error}");
    let text = error.to_string();
    assert!(text.contains("version 1") && text.contains("version 2"), "{text}");
    let session = SharedSession::builder(&copy).source(instant()).create().unwrap();
    session.credentials().unwrap();
}

/// Copies the session to a name that this process has not created.
fn as_a_stranger_sees_it(name: &str) -> (String, String) {
    let copy = format!("{name}-copy");
    for path in [segment as fn(&str) -> String, lock] {
        std::fs::copy(path(name), path(&copy)).unwrap();
        std::fs::set_permissions(path(&copy), Permissions::from_mode(0o600)).unwrap();
    }
    (name.to_owned(), copy)
}

#[test]
fn a_foreign_owner_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can give a file away.
        return;
    }
    let name = name("foreign");
    for path in [lock(&name), segment(&name)] {
        File::create(&path).unwrap().set_permissions(Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let attach = SharedSession::attach(&name).unwrap_err();
        let create = SharedSession::builder(&name).source(instant()).create().unwrap_err();
        let expected = ErrorKind::ForeignOwner;
        assert_eq!((attach.kind(), create.kind()), (expected, expected), "{attach}; {create}");
        assert!(attach.to_string().contains("uid 12345"), "{attach}");
        assert!(Path::new(&path).exists(), "what was there stays");
        // The lock passes now; the segment is next.
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    let _ = (std::fs::remove_file(segment(&name)), std::fs::remove_file(lock(&name)));
}

#[test]
fn a_squatted_name_is_not_followed() {
    let name = name("squatted");
    let target = tempfile::NamedTempFile::new().unwrap();
    for path in [lock(&name), segment(&name)] {
        symlink(target.path(), &path).unwrap();
        let error = SharedSession::builder(&name).source(instant()).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAFile, "{error}");
        assert_eq!(target.as_file().metadata().unwrap().len(), 0);
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::create_dir(segment(&name)).unwrap();
    let error = SharedSession::builder(&name).source(instant()).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAFile, "{error}");
    std::fs::remove_dir(segment(&name)).unwrap();
    assert!(!Path::new(&lock(&name)).exists());
}

#[test]
fn absent_and_other_source() {
    let absent = SharedSession::attach(name("absent")).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::Absent);
    let name = name("source");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let other = Provider::new("other", || async { Credentials::for_tests() });
    let error = SharedSession::builder(&name).source(other).attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongSource);
    SharedSession::builder(&name).source(instant()).attach().unwrap();
    session.credentials().unwrap();
}

#[test]
fn a_session_in_use_is_not_replaced() {
    let name = name("in-use");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let key = session.credentials().unwrap().access_key_id().to_owned();
    let error = SharedSession::builder(&name).source(instant()).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert_eq!(SharedSession::attach(&name).unwrap().credentials().unwrap().access_key_id(), key);
}

#[test]
fn a_reader_without_a_source_says_so() {
    let name = name("no-source");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let (original, copy) = as_a_stranger_sees_it(&name);
    let reader =
        SharedSession::builder(&copy).wait_timeout(Duration::from_millis(20)).attach().unwrap();
    let error = reader.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSource);
    drop((session, reader));
    for path in [segment(&original), segment(&copy), lock(&copy)] {
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn invalid_inputs_are_named_and_make_nothing() {
    const ARN: &str = "arn:aws:iam::123456789012:role/app";
    let second = Duration::from_secs(1);
    let names = ["", "-a", "a/b", "ä", &"x".repeat(65), "a b", "../etc"];
    for bad in names {
        for error in [
            SharedSession::builder(bad).source(instant()).create().unwrap_err(),
            SharedSession::attach(bad).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
            assert!(error.to_string().contains("name "), "{error}");
        }
    }
    let name = name("invalid");
    let role = || AssumeRole::new(ARN);
    let sources: [(&str, AssumeRole); 8] = [
        ("role_arn", AssumeRole::new("role/app")),
        ("duration", role().duration(899 * second)),
        ("duration", role().duration(43_201 * second)),
        ("session_name", role().session_name("a b")),
        ("tag", role().tag("aws:x", "y")),
        ("external_id", role().external_id("x")),
        ("policy", role().policy("")),
        ("endpoint_url", role().endpoint_url("ftp://x")),
    ];
    for (field, source) in sources {
        let error = SharedSession::builder(&name).source(source).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(field), "{error}");
    }
    let base = || SharedSession::builder(&name).source(instant());
    for (field, builder) in [
        ("source", SharedSession::builder(&name)),
        ("wait_timeout", base().wait_timeout(Duration::ZERO)),
        ("advisory_window", base().advisory_window(second).mandatory_window(2 * second)),
        ("mandatory_window", base().advisory_window(second).mandatory_window(Duration::ZERO)),
        ("refresh_spread", base().refresh_spread(f64::NAN)),
        ("refresh_spread", base().refresh_spread(1.01)),
        ("refresh_spread", base().refresh_spread(-0.01)),
        ("start_spread", base().start_spread(second)),
        ("start_spread", base().refresh(shmcreds::Refresh::Eager).start_spread(3601 * second)),
    ] {
        let error = builder.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(field), "{error}");
    }
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}
