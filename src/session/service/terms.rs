//! What the refresher of a pool knows before it serves.

use std::sync::Arc;

use crate::{
    clock::Clock,
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::fetch::{Job, Recipe},
    segment::Header,
    session::pool_rules::Rules,
    source::{AssumeRole, Fingerprint, Source},
};

/// What all calls of the refresher have in common. It is plain data, so it stays valid after `fork`.
#[derive(Clone, Debug)]
pub(in crate::session) struct Terms {
    pub(in crate::session) name: SessionName,
    pub(in crate::session) base: Recipe,
    pub(in crate::session) rules: Rules,
    /// The part of the environment that counts for keys.
    pub(in crate::session) environment: Fingerprint,
    pub(in crate::session) clock: Clock,
    /// Whether it refreshes roles ahead of time that were used. Otherwise only when a process asks.
    pub(in crate::session) ahead: bool,
}

impl Terms {
    /// The role that a process asks for, with the base source of the pool.
    ///
    /// # Errors
    /// Why the refresher makes no calls for it.
    pub(super) fn role(
        &self,
        asked: &[u8],
        key: &Fingerprint,
        header: &Header,
    ) -> Result<AssumeRole, Fault> {
        let invalid = |text: String| Fault::new(ErrorKind::InvalidInput, text);
        let role = AssumeRole::of_asked(asked).ok_or_else(|| invalid("it is no role".into()))?;
        (self.rules.check)(&header.description, role.arn())?;
        role.check_asking().map_err(invalid)?;
        let own = role.pool_key(&header.fingerprint, &self.environment).map_err(invalid)?;
        let role = role.of_pool(Arc::clone(&self.base.source));
        role.validate().map_err(invalid)?;
        if own != *key {
            return Err(Fault::new(ErrorKind::WrongSource, "it has another key"));
        }
        Ok(role)
    }

    /// The input of a call.
    pub(super) fn job(&self, recipe: Recipe) -> Job {
        Job {
            session: self.name.as_str().to_owned(),
            eager: true,
            recipe,
            clock: self.clock.clone(),
            first_call: 0,
            not_before: 0,
            service: None,
        }
    }
}
