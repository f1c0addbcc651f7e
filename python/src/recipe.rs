//! What the package asks for when it opens a session, and the builder of the library for it.

use std::path::PathBuf;

use pyo3::prelude::*;
use shmcreds::{Identified, ManualSource, Refresh, SharedSession, SharedSessionBuilder};

use crate::{
    error::duration,
    source::{Role, Thing},
};

/// What the segment says of a source that Python asks. The fingerprint is the identity.
const DESCRIPTION: &str = "python";

/// The inputs of a session, from a dict with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    fingerprint: [u8; 32],
    /// How long one call of Python's source may take.
    timeout: f64,
    advisory: Option<f64>,
    mandatory: Option<f64>,
    /// The source, where the library asks it. At most one of the two.
    role: Option<Role>,
    thing: Option<Thing>,
    eager: bool,
    pub(crate) sealed: bool,
    /// The program that becomes the refresher.
    pub(crate) program: Option<PathBuf>,
    /// An error where there is a session of that name.
    pub(crate) only_create: bool,
}

impl Recipe {
    /// Whether the library asks the source itself.
    pub(crate) fn is_native(&self) -> bool {
        self.role.is_some() || self.thing.is_some()
    }

    pub(crate) fn builder(&self) -> SharedSessionBuilder {
        self.builder_with(self.advisory, self.mandatory)
    }

    /// The same with other windows.
    pub(crate) fn builder_with(
        &self,
        advisory: Option<f64>,
        mandatory: Option<f64>,
    ) -> SharedSessionBuilder {
        let mut builder = SharedSession::builder(&self.name);
        builder = match (&self.role, &self.thing) {
            (Some(role), _) => builder.source(Identified::new(role.source(), self.fingerprint)),
            (_, Some(thing)) => builder.source(Identified::new(thing.source(), self.fingerprint)),
            (None, None) => builder.source(self.manual()),
        };
        if let Some(program) = &self.program {
            builder = builder.refresher_program(program);
        }
        if self.eager {
            builder = builder.refresh(Refresh::Eager);
        }
        builder = if self.sealed { builder.sealed() } else { builder.removed_by_last_user() };
        with_windows(builder, advisory, mandatory)
    }

    fn manual(&self) -> ManualSource {
        ManualSource::new(DESCRIPTION).fingerprint(self.fingerprint).timeout(duration(self.timeout))
    }
}

fn with_windows(
    mut builder: SharedSessionBuilder,
    advisory: Option<f64>,
    mandatory: Option<f64>,
) -> SharedSessionBuilder {
    if let Some(advisory) = advisory {
        // What the user sets begins on time: nothing is spread before it.
        builder = builder.advisory_window(duration(advisory)).refresh_spread(0.0);
    }
    if let Some(mandatory) = mandatory {
        builder = builder.mandatory_window(duration(mandatory));
    }
    builder
}
