//! Which role a client may have: its path names the role, and its token must be that of this role.

use std::{borrow::Cow, sync::Arc};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use shmcreds::{Error, ErrorKind, RoleSession};
use tokio::sync::Semaphore;

use crate::{
    arn_table::{GRANT, SHARED},
    command_error::{CommandError, USAGE},
    kept::{Offer, Sets},
    role_book::{ByArn, Role, RoleBook},
    token::Token,
};

pub(crate) const BY_NAME: &str = "/v1/roles/";
pub(crate) const BY_ARN: &str = "/v1/role-arn/";

/// Why a client may have a role.
#[derive(Clone, Copy)]
pub(crate) enum Proof<'a> {
    /// It is a process of the user, who can read the whole pool.
    User,
    /// It has given this token.
    Token(&'a [u8]),
}

/// A role that a client may have.
pub(crate) enum Grant {
    Named(Arc<Role>),
    Arn(Arc<ByArn>, String),
}

/// Why a client may not have something.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: Cow<'static, str>,
}

impl Refusal {
    pub(crate) const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Refusal { status, code, message: Cow::Borrowed(message) }
    }

    pub(crate) const fn no_path() -> Self {
        Refusal::new(404, "NotFound", "no such path")
    }

    /// The same for a role that does not exist: a client learns nothing about the roles of others.
    pub(crate) const fn no_token() -> Self {
        Refusal::new(403, "AccessDenied", "the authorization token is wrong or missing")
    }
}

impl Refusal {
    /// Tells the operator what a client is not told: it has the right token, so this may be a mistake in the file.
    pub(crate) fn log(&self, path: &str) {
        if self.code == NOT_ALLOWED.code {
            tracing::warn!(
                ?path,
                "no pattern in `allow` of the roles file fits the role of a client"
            );
        }
    }
}

impl Grant {
    /// The waits of those who have this token.
    pub(crate) fn long_waits(&self) -> &Semaphore {
        match self {
            Grant::Named(role) => &role.access.long_waits,
            Grant::Arn(by_arn, _) => &by_arn.access.long_waits,
        }
    }

    /// Whether this is the same role, with the same settings.
    pub(crate) fn is_same(&self, other: &Grant) -> bool {
        match (self, other) {
            (Grant::Named(one), Grant::Named(other)) => one.is_same(other),
            (Grant::Arn(one, arn), Grant::Arn(other, other_arn)) => {
                arn == other_arn && one.is_same(other)
            }
            _ => false,
        }
    }
}

impl RoleBook {
    /// What a client may have at `path`.
    pub(crate) fn permit(&self, path: &str, proof: Proof<'_>) -> Result<Grant, Refusal> {
        let page = self.page();
        if let Some(name) = path.strip_prefix(BY_NAME) {
            let name = decoded(name)?;
            return match (page.named.get(&*name), proof) {
                (Some(role), Proof::User) => Ok(Grant::Named(Arc::clone(role))),
                (None, Proof::User) => {
                    let names: Vec<&str> = page.named.keys().map(String::as_str).collect();
                    let names = names.join(", ");
                    let message = format!("no role has this name; the roles are: {names}").into();
                    Err(Refusal { status: 404, code: "NoSuchRole", message })
                }
                (Some(role), Proof::Token(given)) if role.access.token.is(given) => {
                    Ok(Grant::Named(Arc::clone(role)))
                }
                _ => Err(Refusal::no_token()),
            };
        }
        let Some(arn) = path.strip_prefix(BY_ARN) else { return Err(Refusal::no_path()) };
        // Each token is good for the roles of its own table.
        let is_open = |table: &&Arc<ByArn>| match proof {
            Proof::User => true,
            Proof::Token(given) => table.access.token.is(given),
        };
        let open: Vec<&Arc<ByArn>> = page.by_arn.values().filter(is_open).collect();
        if open.is_empty() && matches!(proof, Proof::Token(_)) {
            return Err(Refusal::no_token());
        }
        let arn = decoded(arn)?;
        match open.into_iter().find(|table| table.allows(&arn)) {
            Some(table) => Ok(Grant::Arn(Arc::clone(table), arn.into_owned())),
            None => Err(NOT_ALLOWED),
        }
    }

    /// The session of a permitted role.
    pub(crate) async fn session(&self, grant: &Grant) -> Result<RoleSession, Refusal> {
        let recipe = match grant {
            Grant::Named(role) => match role.session.get() {
                Some(session) => return Ok(session.clone()),
                None => role.recipe(),
            },
            Grant::Arn(by_arn, arn) => by_arn.recipe(arn),
        };
        // A role that is new waits for the lock of the pool, which a stopped process may hold.
        let roles = self.roles.clone();
        let found = tokio::task::spawn_blocking(move || roles.role(recipe)).await;
        let session = match found {
            Ok(found) => found.map_err(|error| refused(&error))?,
            Err(_) => {
                return Err(Refusal::new(503, "Unavailable", "the role could not be looked up"));
            }
        };
        match grant {
            Grant::Named(role) => Ok(role.session.get_or_init(|| session).clone()),
            Grant::Arn(..) => Ok(session),
        }
    }
}

/// What CMD of `exec` finds.
impl RoleBook {
    /// The role that CMD gets.
    pub(crate) fn offer(&self, name: &str) -> Result<Offer, CommandError> {
        let page = self.page();
        let Some(role) = page.named.get(name) else {
            let names: Vec<&str> = page.named.keys().map(String::as_str).collect();
            let names = names.join(", ");
            let text =
                format!("--role {name}: the roles file has no such role; its roles are: {names}");
            return Err(CommandError::new(USAGE, text));
        };
        let session = self.roles.role(role.recipe())?;
        let _ = role.session.set(session.clone());
        let (path, token) = (format!("{BY_NAME}{name}"), role.access.token.text().to_owned());
        Ok(Offer { sets: Sets::Role(session), path, token })
    }

    /// Where all roles are at the endpoint with this URL, with their tokens, as JSON.
    pub(crate) fn directory(&self, endpoint: &str) -> String {
        let page = self.page();
        let at = |path: &str, token: &Token| json!({"uri": format!("{endpoint}{path}"), "token": token.text()});
        let role = |role: &Role| {
            (role.name.clone(), at(&format!("{BY_NAME}{}", role.name), &role.access.token))
        };
        let roles: Map<String, Value> = page.named.values().map(|one| role(one)).collect();
        let by_arn = |table: &Arc<ByArn>| at(BY_ARN, &table.access.token);
        let grant = |(label, table): (&String, &Arc<ByArn>)| {
            Some((label.strip_prefix(GRANT)?.to_owned(), by_arn(table)))
        };
        let grants: Map<String, Value> = page.by_arn.iter().filter_map(grant).collect();
        let shared = page.by_arn.get(SHARED).map(by_arn);
        json!({"roles": roles, "role_arn": shared, "grants": grants}).to_string()
    }
}

/// Without the patterns: they may name other tenants.
const NOT_ALLOWED: Refusal =
    Refusal::new(403, "NotAllowed", "no pattern in `allow` of the roles file fits this role");

fn refused(error: &Error) -> Refusal {
    let (status, code) = match error.kind() {
        ErrorKind::InvalidInput => (400, "InvalidInput"),
        ErrorKind::NotAllowed => return NOT_ALLOWED,
        ErrorKind::Full => (503, "Full"),
        _ => (503, "Unavailable"),
    };
    Refusal { status, code, message: error.to_string().into() }
}

/// A part of a path. Clients may encode the colons and slashes of an ARN.
fn decoded(part: &str) -> Result<Cow<'_, str>, Refusal> {
    percent_decode_str(part)
        .decode_utf8()
        .map_err(|_| Refusal::new(400, "InvalidInput", "the path is not UTF-8"))
}
