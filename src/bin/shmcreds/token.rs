//! The tokens of the endpoint, and the files that they are written to.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::unistd::{Gid, Uid, fchown};
use shmcreds::endpoint::random;
use subtle::ConstantTimeEq;

use crate::{
    command_error::{CANNOT_CREATE, CommandError, Doing},
    errno::told,
};

/// 32 random bytes, as text. It is a secret, so it has no `Debug`.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Draws one from the kernel.
    pub(crate) fn random() -> Result<Self, CommandError> {
        random::token().map(Token).doing("drawing a token (getrandom)")
    }

    /// One that was drawn before.
    pub(crate) fn of(text: &str) -> Self {
        Token(text.to_owned())
    }

    /// Whether a client has given this token. The time of the comparison shows only whether the length is right. The
    /// length is no secret.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        given.ct_eq(self.0.as_bytes()).into()
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Where a token is written to, and who may read it there, besides this user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenPlace {
    pub(crate) path: PathBuf,
    /// The user whose file it is.
    pub(crate) owner: Option<u32>,
    /// A group whose members may read the file.
    pub(crate) group: Option<u32>,
}

/// A file with a token. Dropping this removes the file.
pub(crate) struct TokenFile {
    path: PathBuf,
    inode: (u64, u64),
    token: Token,
    /// Whether somebody else has removed the file. A new one may get its inode.
    is_gone: AtomicBool,
}

impl TokenFile {
    /// Writes the token to its place, in one step, so that no reader sees a part of it. `option` names the setting in an
    /// error.
    pub(crate) fn write(
        option: &str,
        place: &TokenPlace,
        token: &Token,
    ) -> Result<Self, CommandError> {
        TokenFile::draft(option, place, token)?.named(option, place)
    }

    /// Writes the token without a newline, with the mode 0600, or 0640 for a group. The file has a hidden name beside its
    /// place. So several files can be replaced together, or none.
    pub(crate) fn draft(
        option: &str,
        place: &TokenPlace,
        token: &Token,
    ) -> Result<Self, CommandError> {
        let TokenPlace { path, owner, group } = place;
        let name = path.file_name().unwrap_or_default();
        let hidden = [".".as_ref(), name, ".new".as_ref()].into_iter().collect::<OsString>();
        let draft = path.with_file_name(hidden);
        let write = || {
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let _ = fs::remove_file(&draft);
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
            // Whatever the mask of the process (umask) is.
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(token.text().as_bytes())?;
            if owner.is_some() || group.is_some() {
                fchown(&file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
            }
            if group.is_some() {
                file.set_permissions(Permissions::from_mode(0o640))?;
            }
            let found = file.metadata()?;
            Ok((found.dev(), found.ino()))
        };
        match write() {
            Ok(inode) => {
                let is_gone = AtomicBool::new(false);
                Ok(TokenFile { path: draft, inode, token: token.clone(), is_gone })
            }
            Err(error) => {
                let _ = fs::remove_file(&draft);
                Err(CommandError::new(CANNOT_CREATE, refused(option, place, &error)))
            }
        }
    }

    /// Gives a draft its name.
    pub(crate) fn named(mut self, option: &str, place: &TokenPlace) -> Result<Self, CommandError> {
        fs::rename(&self.path, &place.path)
            .map_err(|error| CommandError::new(CANNOT_CREATE, refused(option, place, &error)))?;
        self.path = place.path.clone();
        Ok(self)
    }

    /// Whether the file is in its place, with its token. Once it is not, it never is again: another file is there then.
    pub(crate) fn is_there(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        let is_same = found.is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        let is_there = is_same && fs::read(&self.path).is_ok_and(|written| self.token.is(&written));
        // Relaxed, here and below: the flag orders no other memory.
        if !is_there {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        is_there && !self.is_gone.load(Ordering::Relaxed)
    }

    /// Removes the file, unless another one is in its place: another `serve`, or a new version of the roles, may have
    /// written its own token meanwhile.
    pub(crate) fn remove(&self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refused(option: &str, place: &TokenPlace, error: &io::Error) -> String {
    let text = format!("{option} {}: {}", place.path.display(), told(error));
    match (place.owner, error.kind()) {
        (Some(owner), io::ErrorKind::PermissionDenied) => {
            format!("{text}; only root can give a file to uid {owner} (CAP_CHOWN)")
        }
        _ => text,
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Whether a path can be that of a token file, wherever this process is.
pub(crate) fn is_absolute(path: &Path) -> bool {
    path.is_absolute() && path.file_name().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_only_itself() {
        let (token, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(token.text().len(), 64);
        assert!(token.is(token.text().as_bytes()));
        for given in [other.text(), "", &token.text()[1..], &format!("{}0", token.text())] {
            assert!(!token.is(given.as_bytes()), "{given}");
        }
    }
}
