//! Sealed sessions across `exec`: an environment variable names their descriptors.
//!
//! The variable holds `name=instance:segment:locks[:more]` for each session, separated by `;`. More is the secret memory of a
//! session, or the socket at which the refresher of a pool is asked. The instance
//! is that of the header, in hexadecimal. Each descriptor is `number@device.inode`, in decimal. A program that
//! does not know the variable passes it on. Device and inode show whether the descriptors still belong to the same
//! files.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    process::Command,
};

use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::election_lock::ElectionLock,
    segment::Segment,
    sys::{
        descriptor::{Descriptor, Inode},
        lock::LockFile,
        memory_file,
        object::Object,
        process,
    },
};

/// The number of a descriptor, and what it led to.
type Passed = (RawFd, Inode);

/// The environment variable.
const VARIABLE: &str = "SHMCREDS_SESSIONS";

/// Lets the program that `command` starts attach to the session.
pub(super) fn pass(
    name: &SessionName,
    segment: &Segment,
    election_lock: &ElectionLock,
    command: &mut Command,
) -> Result<(), Fault> {
    let (own, payload) = segment.descriptors()?;
    let (locks, asks) = (election_lock.locks().duplicate()?, segment.asks());
    let asks = asks.map(Descriptor::duplicate).transpose()?;
    let fds: Vec<OwnedFd> = [own, locks].into_iter().chain(payload).chain(asks).collect();
    let mut entry = format!("{}={:016x}", name.as_str(), segment.header.instance);
    for fd in &fds {
        let (device, inode) = Inode::of_descriptor(fd.as_fd())?.parts();
        entry += &format!(":{}@{device}.{inode}", fd.as_raw_fd());
    }
    let others = before(command);
    let list = others.iter().filter(|other| name_of(other) != name.as_str()).map(String::as_str);
    let list: Vec<&str> = list.chain([entry.as_str()]).collect();
    command.env(VARIABLE, list.join(";"));
    process::keep_on_exec(command, fds);
    Ok(())
}

/// The sessions that `command` passes already, or that this process was passed itself.
fn before(command: &Command) -> Vec<String> {
    let set = command.get_envs().find(|(key, _)| *key == OsStr::new(VARIABLE));
    let list = match set {
        Some((_, value)) => value.and_then(OsStr::to_str).map(str::to_owned),
        None => std::env::var(VARIABLE).ok(),
    };
    list.iter().flat_map(|list| list.split(';')).map(str::to_owned).collect()
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or("", |(name, _)| name)
}

/// The session `name` that this process was passed when it was started, if it still has it.
pub(super) fn take(name: &SessionName) -> Result<Option<(LockFile, Segment)>, Fault> {
    let Ok(list) = std::env::var(VARIABLE) else { return Ok(None) };
    let entry = list.split(';').find(|entry| name_of(entry) == name.as_str());
    let Some((instance, fds)) = entry.and_then(parse) else { return Ok(None) };
    let copy = |(number, inode)| memory_file::copy_of(number, inode);
    let [segment, locks, more] = fds.map(|fd| fd.and_then(copy));
    let (Some(segment), Some(locks)) = (segment, locks) else { return Ok(None) };
    let segment = match Segment::inherited(segment, more) {
        Ok(segment) if segment.header.instance == instance => segment,
        Err(fault) if fault.kind == ErrorKind::System => return Err(fault),
        // The program has closed what it was passed, and opened other files.
        _ => return Ok(None),
    };
    let locks = LockFile::new(Object::inherited("the lock file", locks)?);
    Ok(Some((locks, segment)))
}

/// The instance and the descriptors of an entry.
fn parse(entry: &str) -> Option<(u64, [Option<Passed>; 3])> {
    let mut parts = entry.split_once('=')?.1.split(':');
    let instance = u64::from_str_radix(parts.next()?, 16).ok()?;
    let fds = [(); 3].map(|()| parts.next().and_then(parse_descriptor));
    Some((instance, fds))
}

fn parse_descriptor(text: &str) -> Option<Passed> {
    let (number, inode) = text.split_once('@')?;
    let (device, inode) = inode.split_once('.')?;
    let number = number.parse().ok().filter(|number| *number >= 0)?;
    Some((number, Inode::from_parts(device.parse().ok()?, inode.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let [five, six] = [5, 6].map(|number| Some((number, Inode::from_parts(1, 2))));
        assert_eq!(parse("web=ff:5@1.2:6@1.2"), Some((255, [five, six, None])));
        assert_eq!(parse("web=ff:5@1.2:6@1.2:6@1.2"), Some((255, [five, six, six])));
        for nonsense in ["", "web", "web=", "web=x:1:2"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
        for nonsense in ["x", "5", "5@1", "5@1.x", "-1@1.2"] {
            assert_eq!(parse(&format!("web=1:{nonsense}")), Some((1, [None; 3])), "{nonsense}");
        }
    }

    #[test]
    fn a_command_passes_several() {
        let mut command = Command::new("true");
        command.env(VARIABLE, "a=1:2:3;b=1:4:5");
        assert_eq!(before(&command), ["a=1:2:3", "b=1:4:5"]);
        command.env_remove(VARIABLE);
        assert!(before(&command).is_empty());
    }
}
