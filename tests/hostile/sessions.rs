//! The variable `SHMCREDS_SESSIONS`, and the descriptors that it names.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::Write,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    time::Duration,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use shmcreds::{ErrorKind, SharedSession};

use crate::{choices::Choices, files};

const VARIABLE: &str = "SHMCREDS_SESSIONS";
const SETS_BYTES: usize = files::SET_SLOTS * files::SET_SLOT;

/// A descriptor as the variable names it.
fn honest(fd: &OwnedFd) -> String {
    let meta = File::from(fd.try_clone().unwrap()).metadata().unwrap();
    format!("{}@{}.{}", fd.as_raw_fd(), meta.dev(), meta.ino())
}

/// A memory file with those bytes.
fn memory_file(bytes: &[u8]) -> OwnedFd {
    let fd = memfd_create("hostile", MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    file.into()
}

/// Sets the variable as `data` says, and attaches to the session that it names. The process has one thread.
pub fn attack(data: &[u8]) {
    let choices = &mut Choices::new(data);
    let template = files::template(false);
    let (mut segment, mut locks) = (template.segment.clone(), template.locks.clone());
    // A sealed session, with or without secret memory.
    segment[files::FLAGS] = choices.one(&[0, 3, 7]);
    files::seal_header(&mut segment);
    let sums = files::damage_segment(&mut segment, choices);
    if choices.yes() {
        files::damage_locks(&mut locks, choices);
    }
    // Secret memory is not checked against the segment: another session's sets are whole.
    let mut payload = template.segment[files::SETS..][..SETS_BYTES].to_vec();
    if choices.yes() {
        payload = choices.mutated(&payload);
        payload.truncate(1 << 20);
    }
    let instance = files::INSTANCE..files::INSTANCE + 8;
    let instance =
        segment.get(instance).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let open = [segment, locks, payload].map(|bytes| memory_file(&bytes));
    let name = files::unique("sessions");
    let list = variable(&name, instance, &open, choices);
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var(VARIABLE, list) };
    let builder = SharedSession::builder(&name).wait_timeout(Duration::from_millis(50));
    let builder = if choices.yes() { builder.source(files::source(|| true)) } else { builder };
    match builder.attach() {
        Ok(session) => files::use_it(&session, sums),
        Err(error) => drop(format!("{error} {error:?}")),
    }
    // SAFETY: as above; a refresh that was started has ended with its call.
    unsafe { std::env::remove_var(VARIABLE) };
}

/// The number of the secret memory leads to a memory file that has no room for the sets.
pub fn secret_memory_is_too_short() {
    let template = files::template(false);
    let mut segment = template.segment.clone();
    segment[files::FLAGS] = 7;
    files::seal_header(&mut segment);
    let instance = u64::from_le_bytes(segment[files::INSTANCE..][..8].try_into().unwrap());
    for (bytes, refused) in [(0, true), (4096, true), (SETS_BYTES - 1, true), (SETS_BYTES, false)] {
        let payload = &template.segment[files::SETS..][..bytes];
        let open = [&segment[..], &template.locks, payload].map(memory_file);
        let [first, locks, payload] = open.each_ref().map(honest);
        let name = files::unique("short");
        let list = format!("{name}={instance:016x}:{first}:{locks}:{payload}");
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var(VARIABLE, list) };
        match SharedSession::attach(&name) {
            Err(error) => assert!(refused && error.kind() == ErrorKind::Absent, "{bytes}: {error}"),
            Ok(session) => assert!(!refused && session.credentials().is_ok(), "{bytes}"),
        }
    }
}

/// The variable: a list of entries, one of which most often leads to the descriptors.
fn variable(name: &str, instance: u64, open: &[OwnedFd; 3], choices: &mut Choices) -> String {
    let [segment, locks, payload] = open.each_ref().map(honest);
    let streams = [0, 1, 2].map(|number| format!("{number}@1.1"));
    let mut list = String::new();
    for _ in 0..=choices.byte() % 3 {
        let name = choices.one(&[name, name, "other", "", name]);
        let instance = if choices.byte().is_multiple_of(4) { choices.word() } else { instance };
        let number = |honest: &str, choices: &mut Choices| match choices.byte() % 8 {
            0 => choices.word().to_string(),
            1 => format!("{}@1.{}", -i64::from(choices.byte()), choices.word()),
            2 => choices.one(&[&segment, &locks, &payload, &streams[0], &streams[2]]).clone(),
            _ => honest.to_owned(),
        };
        list += &format!("{name}={instance:016x}:{}", number(&segment, choices));
        list += &format!(":{}", number(&locks, choices));
        if !choices.byte().is_multiple_of(4) {
            list += &format!(":{}", number(&payload, choices));
        }
        list.push(choices.one(&[';', ';', ':', '=']));
    }
    if choices.byte().is_multiple_of(4) {
        let mutated = choices.mutated(list.as_bytes());
        list = String::from_utf8_lossy(&mutated).replace('\0', ";");
    }
    list
}
