//! The roles that the endpoint hands out, each with its token. The roles file can be read again while clients ask.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use shmcreds::{AssumeRole, Fingerprint, RoleSession, RoleStatus, SharedRoles, Source};
use tokio::sync::Semaphore;

use crate::{
    arn_table::ArnTable,
    command_error::{CommandError, DATA},
    log,
    role_inputs::RoleInputs,
    role_pool,
    roles_file::{NamedRole, RolesFile},
    token::{Token, TokenFile, TokenPlace},
};

/// An ARN in place of that of a client, when the inputs of such roles are checked.
const ANY_ROLE: &str = "arn:aws:iam::123456789012:role/any";

/// How many clients with one token wait for a set of some length at a time. All tokens together have
/// [`LONG_WAITS`](shmcreds::endpoint::service::LONG_WAITS), so one tenant does not delay the others.
const LONG_WAITS_OF_ONE: usize = 4;

/// The roles of a pool, for clients.
pub(crate) struct RoleBook {
    pub(crate) roles: SharedRoles,
    base: Arc<dyn Source>,
    path: PathBuf,
    tokens: Tokens,
    /// Whether this process refreshes the roles ahead of time.
    is_eager: bool,
    page: RwLock<Arc<Page>>,
}

/// Where tokens are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// In the files that the roles file names. Each role needs one.
    InFiles,
    /// In this process, which gives them to its CMD.
    Here,
}

/// What the roles file said when it was read.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) named: BTreeMap<String, Arc<Role>>,
    /// The tables of roles that are asked for by their ARN, by their names in the file.
    pub(crate) by_arn: BTreeMap<String, Arc<ByArn>>,
}

/// A role with a name.
pub(crate) struct Role {
    pub(crate) name: String,
    settings: NamedRole,
    pub(crate) access: Access,
    pub(crate) session: OnceLock<RoleSession>,
}

/// Roles that are asked for by their ARN, with one token.
pub(crate) struct ByArn {
    settings: ArnTable,
    pub(crate) access: Access,
}

/// A token, and the file with it.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) token: Token,
    pub(crate) long_waits: Arc<Semaphore>,
    place: Option<TokenPlace>,
    file: Option<Arc<TokenFile>>,
}

/// An access whose file has not its name yet.
struct Draft {
    option: String,
    token: Token,
    long_waits: Arc<Semaphore>,
    place: Option<TokenPlace>,
    file: File,
}

enum File {
    None,
    Kept(Arc<TokenFile>),
    New(TokenFile),
}

impl Page {
    /// The token files.
    fn files(&self) -> impl Iterator<Item = &Arc<TokenFile>> {
        let named = self.named.values().map(|role| &role.access);
        let all = named.chain(self.by_arn.values().map(|by_arn| &by_arn.access));
        all.filter_map(|access| access.file.as_ref())
    }
}

impl Role {
    /// Whether nothing about the role has changed since it was read before.
    pub(crate) fn is_same(&self, other: &Role) -> bool {
        self.name == other.name && self.settings == other.settings
    }

    pub(crate) fn recipe(&self) -> AssumeRole {
        self.settings.inputs.recipe(&self.settings.arn)
    }
}

impl ByArn {
    /// Whether the same roles have the same inputs as before.
    pub(crate) fn is_same(&self, other: &ByArn) -> bool {
        self.settings.inputs == other.settings.inputs && self.settings.allow == other.settings.allow
    }

    pub(crate) fn recipe(&self, arn: &str) -> AssumeRole {
        self.settings.inputs.recipe(arn)
    }

    pub(crate) fn allows(&self, arn: &str) -> bool {
        self.settings.allows(arn)
    }
}

impl RoleBook {
    /// `file` is what the file at `path` says.
    pub(crate) fn new(
        roles: SharedRoles,
        base: Arc<dyn Source>,
        path: PathBuf,
        file: RolesFile,
        tokens: Tokens,
        is_eager: bool,
    ) -> Result<Self, CommandError> {
        let page = RwLock::default();
        let book = RoleBook { roles, base, path, tokens, is_eager, page };
        book.turn(file)?;
        Ok(book)
    }

    pub(crate) fn page(&self) -> Arc<Page> {
        Arc::clone(&self.page.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again. If it cannot be used, everything stays as it is.
    pub(crate) fn reload(self: &Arc<Self>) {
        let read = RolesFile::read_again(&self.path).and_then(|file| {
            let settings = role_pool::Settings::of(&file);
            self.turn(file).map(|before| (settings, before))
        });
        match read {
            Ok((settings, before)) => {
                self.forget(before);
                settings.warn(&self.roles);
                tracing::info!(roles = self.page().named.len(), "the roles file was read again");
            }
            Err(failure) => {
                tracing::error!(
                    "the roles stay as they are, because the roles file cannot be used: {failure}"
                );
            }
        }
    }

    /// Finds the roles of the file whose sets a process before this one has left, so that they are refreshed, too.
    pub(crate) fn resume(&self) {
        let Ok(status) = self.roles.status() else { return };
        let known: HashSet<&Fingerprint> = status.entries().iter().map(RoleStatus::key).collect();
        for role in self.page().named.values().filter(|_| !known.is_empty()) {
            let recipe = role.recipe();
            if self.roles.key_of(&recipe).is_ok_and(|key| known.contains(&key))
                && let Ok(session) = self.roles.role(recipe)
            {
                let _ = role.session.set(session);
            }
        }
    }

    /// Gives out no role any more, and removes the token files.
    pub(crate) fn close(&self) {
        let page = self.page();
        *self.page.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        // Requests that are being answered still have their roles.
        page.files().for_each(|file| file.remove());
    }

    /// The keys of the roles in the pool, by name.
    pub(crate) fn keys(&self) -> String {
        let page = self.page();
        let key =
            |role: &Role| Some((role.name.clone(), hex(&self.roles.key_of(&role.recipe()).ok()?)));
        let keys: BTreeMap<String, String> =
            page.named.values().filter_map(|role| key(role)).collect();
        serde_json::json!(keys).to_string()
    }

    /// Goes over to what `file` says: as a whole, or not at all. Gives what was there before.
    fn turn(&self, file: RolesFile) -> Result<Arc<Page>, CommandError> {
        log::learn(file.secrets());
        let before = self.page();
        let next = self.next(file, &before)?;
        let kept: HashSet<*const TokenFile> = next.files().map(Arc::as_ptr).collect();
        // From here on a role that was removed is refused.
        *self.page.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        // Not when the last request for the role has been answered.
        let gone = before.files().filter(|file| !kept.contains(&Arc::as_ptr(file)));
        gone.for_each(|file| file.remove());
        Ok(before)
    }

    fn next(&self, file: RolesFile, before: &Page) -> Result<Page, CommandError> {
        let mut drafts = Vec::new();
        for (name, settings) in file.roles {
            let option = format!("role.{name}");
            self.check(&option, &settings.inputs, &settings.arn)?;
            let known = before.named.get(&name);
            let place = settings.token.clone();
            let draft = self.draft(option, place, known.map(|role| &role.access))?;
            drafts.push((name, settings, draft));
        }
        let mut by_arn = Vec::new();
        for (label, settings) in file.by_arn {
            self.check(&label, &settings.inputs, ANY_ROLE)?;
            let known = before.by_arn.get(&label).map(|by_arn| &by_arn.access);
            let draft = self.draft(label.clone(), settings.token.clone(), known)?;
            by_arn.push((label, settings, draft));
        }
        // All files are written. What can fail from here on is a rename in the same directory.
        let mut page = Page::default();
        for (name, settings, draft) in drafts {
            let access = draft.finish()?;
            let known = before.named.get(&name);
            let known = known.filter(|role| role.settings == settings);
            let session = known.map_or_else(OnceLock::new, |role| role.session.clone());
            let role = Role { name: name.clone(), settings, access, session };
            page.named.insert(name, Arc::new(role));
        }
        for (label, settings, draft) in by_arn {
            page.by_arn.insert(label, Arc::new(ByArn { settings, access: draft.finish()? }));
        }
        Ok(page)
    }

    fn check(&self, option: &str, inputs: &RoleInputs, arn: &str) -> Result<(), CommandError> {
        let whole = inputs.recipe(arn).base_source(Arc::clone(&self.base));
        let file = self.path.display();
        let can_be_refreshed = || if self.is_eager { inputs.check_refresh() } else { Ok(()) };
        whole
            .validate()
            .and_then(|()| can_be_refreshed())
            .map_err(|problem| CommandError::new(DATA, format!("{file}: {option}: {problem}")))
    }

    /// The token of a role that is known stays. Its file stays if its place is the same.
    fn draft(
        &self,
        option: String,
        place: Option<TokenPlace>,
        known: Option<&Access>,
    ) -> Result<Draft, CommandError> {
        let place = place.filter(|_| self.tokens == Tokens::InFiles);
        if place.is_none() && self.tokens == Tokens::InFiles {
            let text = format!(
                "{}: {option}: it has no token-file; add one, or a token-directory at the top of the file",
                self.path.display()
            );
            return Err(CommandError::new(DATA, text));
        }
        let token = known.map_or_else(Token::random, |known| Ok(known.token.clone()))?;
        let long_waits = known.map(|known| Arc::clone(&known.long_waits));
        let long_waits = long_waits.unwrap_or_else(|| Arc::new(Semaphore::new(LONG_WAITS_OF_ONE)));
        let kept = known.filter(|known| known.place == place).and_then(|known| known.file.clone());
        let option = format!("{}: {option}: token-file", self.path.display());
        let file = match (&place, kept) {
            (None, _) => File::None,
            (Some(_), Some(kept)) if kept.is_there() => File::Kept(kept),
            // Somebody has removed it. A role that was removed from the roles file must not wait for this one's directory.
            (Some(place), Some(kept)) => match TokenFile::draft(&option, place, &token) {
                Ok(file) => File::New(file),
                Err(error) => {
                    tracing::warn!("a token file is gone and cannot be written again: {error}");
                    File::Kept(kept)
                }
            },
            (Some(place), None) => File::New(TokenFile::draft(&option, place, &token)?),
        };
        Ok(Draft { option, token, long_waits, place, file })
    }
}

/// The key of a role, as text.
pub(crate) fn hex(key: &Fingerprint) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Draft {
    fn finish(self) -> Result<Access, CommandError> {
        let Draft { option, token, long_waits, place, file } = self;
        let file = match (file, &place) {
            (File::New(file), Some(place)) => Some(Arc::new(file.named(&option, place)?)),
            (File::Kept(file), _) => Some(file),
            _ => None,
        };
        Ok(Access { token, long_waits, place, file })
    }
}
