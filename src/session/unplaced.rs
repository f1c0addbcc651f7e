//! Why no directory can hold a session, and whether memory files can take their place.

use super::process_session::Settings;
use crate::error::{ErrorKind, Fault};

/// Why a session could not be made.
#[derive(Debug)]
pub(super) struct Unplaced {
    /// The settings, when a session without a name can still be made.
    pub(super) settings: Option<Settings>,
    /// The reason of each place.
    pub(super) refused: Vec<Fault>,
}

impl From<Fault> for Box<Unplaced> {
    fn from(fault: Fault) -> Self {
        Box::new(Unplaced { settings: None, refused: vec![fault] })
    }
}

impl Unplaced {
    /// The settings and the reasons, when memory files can take the place of a directory. A directory on a disk is a
    /// mistake that somebody should hear of, unless the name is `optional`.
    pub(super) fn without_a_name(self, optional: bool) -> Result<(Settings, String), Fault> {
        let on_disk = self.refused.iter().any(|fault| fault.kind == ErrorKind::Misconfigured);
        match self {
            Unplaced { settings: Some(settings), refused } if optional || !on_disk => {
                let reasons: Vec<&str> = refused.iter().map(|fault| &*fault.message).collect();
                Ok((settings, reasons.join("; ")))
            }
            other => Err(other.fault()),
        }
    }

    /// The reason for the caller.
    pub(super) fn fault(mut self) -> Fault {
        if self.settings.is_none() && self.refused.len() == 1 {
            return self.refused.remove(0);
        }
        let on_disk = self.refused.iter().position(|fault| fault.kind == ErrorKind::Misconfigured);
        if let Some(place) = on_disk {
            return self.refused.swap_remove(place);
        }
        let reasons: Vec<&str> = self.refused.iter().map(|fault| &*fault.message).collect();
        let text = format!(
            "no directory for the session: {}; mount a tmpfs there, or give another directory on one (SHMCREDS_DIR, or \
             `directory` of the builder)",
            reasons.join("; ")
        );
        Fault::new(ErrorKind::NoSpace, text)
    }
}

/// Whether the fault is one of this directory. Another directory, or a memory file, may hold the session then.
pub(super) fn is_of_the_place(fault: &Fault) -> bool {
    matches!(fault.kind, ErrorKind::NoSpace | ErrorKind::Misconfigured)
}
