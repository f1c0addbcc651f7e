//! The settings of sessions that other users read.

use super::SharedSessionBuilder;

impl SharedSessionBuilder {
    /// Lets the members of the group `gid` read the session: other users, or containers of the same node that share its
    /// [directory](Self::directory). The segment gets the mode 0640. This process must be a member of the group, or
    /// root. Decided by the process that creates the session.
    ///
    /// | a process | may |
    /// | --- | --- |
    /// | of the owner | all that it may in any session |
    /// | of another user, in the group | [`attach`](Self::attach), read, and wait for a set. It cannot write, lock, request a refresh or report a rejected set, is never elected, and does not keep the session alive |
    /// | of any other user | nothing |
    ///
    /// The owner can truncate the segment, which ends its readers with SIGBUS: they trust the owner.
    pub fn group(mut self, gid: u32) -> Self {
        self.sharing.group = Some(gid);
        self
    }

    /// [`attach`](Self::attach) opens the session of the user `uid`, who shares it with a [group](Self::group) that this
    /// process is in. Files of another user are refused.
    ///
    /// Without it, `attach` looks for a session of this process's own user. If there is none, and the
    /// [directory](Self::directory) that was chosen belongs to another user, it opens that user's session. A process of
    /// root must say whose session it wants.
    pub fn owner(mut self, uid: u32) -> Self {
        self.sharing.owner = Some(uid);
        self
    }
}
