//! What `exec` and `serve` keep, and hand out at their endpoint: a session, or a pool of roles.

use std::{sync::Arc, time::Duration};

use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials},
};
use shmcreds::{
    Error, RoleSession, SetSnapshot, SharedSession, Status,
    endpoint::service::{PATH, Sets as _},
};

use crate::{command_error::CommandError, role_book::RoleBook};

/// What a process keeps.
pub(crate) enum Kept {
    Session(SharedSession),
    Roles(Arc<RoleBook>),
}

/// Where sets come from.
#[derive(Clone)]
pub(crate) enum Sets {
    Session(SharedSession),
    Role(RoleSession),
}

/// What CMD gets of it.
pub(crate) struct Offer {
    pub(crate) sets: Sets,
    /// Where the endpoint has the credentials.
    pub(crate) path: String,
    pub(crate) token: String,
}

impl Kept {
    pub(crate) fn name(&self) -> &str {
        match self {
            Kept::Session(session) => session.name(),
            Kept::Roles(book) => book.roles.name(),
        }
    }

    /// What CMD gets: `role` of a pool, or the session, which the endpoint hands out for `token`.
    pub(crate) fn offer(&self, role: Option<&str>, token: &str) -> Result<Offer, CommandError> {
        match self {
            Kept::Roles(book) => book.offer(role.unwrap_or_default()),
            Kept::Session(session) => Ok(Offer {
                sets: Sets::Session(session.clone()),
                path: PATH.to_owned(),
                token: token.to_owned(),
            }),
        }
    }

    /// Removes the name.
    pub(crate) fn unlink(&self) {
        match self {
            Kept::Session(session) => session.unlink(),
            Kept::Roles(book) => book.roles.unlink(),
        }
    }
}

impl Sets {
    pub(crate) async fn provide(&self) -> provider::Result {
        match self {
            Sets::Session(session) => session.provide_credentials().await,
            Sets::Role(role) => role.provide_credentials().await,
        }
    }

    /// The credentials: those of a set that is valid for so long, if that was asked for.
    pub(crate) fn credentials(&self, valid_for: Option<Duration>) -> Result<Credentials, Error> {
        let of = |set: SetSnapshot| set.dated();
        match (self, valid_for) {
            (Sets::Session(session), None) => session.credentials().map(|set| session.dated(set)),
            (Sets::Session(session), Some(time)) => session.credentials_valid_for(time).map(of),
            (Sets::Role(role), None) => role.credentials().map(|set| role.dated(set)),
            (Sets::Role(role), Some(time)) => role.credentials_valid_for(time).map(of),
        }
    }

    pub(crate) fn status(&self) -> Result<Status, Error> {
        match self {
            Sets::Session(session) => session.status(),
            Sets::Role(role) => role.status(),
        }
    }
}
