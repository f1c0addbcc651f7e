//! A process's own decoded copies of the newest set.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use aws_credential_types::{Credentials, provider::future};

use crate::{
    error::{ErrorKind, Fault},
    refresh::policy::{Points, REJECTION_FLOOR},
    segment::{
        Entry,
        record::{FewWords, Words},
        set_record::SetRecord,
    },
    seqlock::Version,
    sys::{copies::Lent, dump::Undumped},
};

/// What the SDK calls the origin of the credentials.
const PROVIDER_NAME: &str = "shmcreds";

/// Memory for the secrets of a set: the secret access key and the session token.
pub(super) type SecretRoom = Undumped<2>;

/// The state of a set at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Fresh,
    Advisory,
    /// In the last minute, or rejected by AWS.
    Mandatory,
    Expired,
}

/// One set. Its secrets are wiped when the SDK's `Credentials` are dropped.
pub(crate) struct Snapshot {
    pub(super) life: Life,
    pub(super) credentials: Credentials,
    /// The tick at which the phase was last checked and nothing was to be done.
    verified: AtomicU64,
}

/// A snapshot found current, borrowed from its session for a moment.
pub(crate) struct Current<'a>(pub(super) Lent<'a, Snapshot>);

impl Current<'_> {
    /// A clone of the credentials, in the caller's result type.
    #[inline]
    pub(crate) fn credentials<E>(&self) -> Result<Credentials, E> {
        cloned(&self.0.credentials)
    }

    /// The same as a future that is ready, for a caller that returns it.
    #[inline]
    pub(crate) fn provided<'a>(&self) -> future::ProvideCredentials<'a> {
        provided(&self.0.credentials)
    }
}

/// A separate function, so that the clone is made directly in the place of the result: a move would cost as much as the
/// clone. It does not take a `Current`, which stays in registers so.
#[inline(never)]
fn cloned<E>(credentials: &Credentials) -> Result<Credentials, E> {
    Ok(credentials.clone())
}

/// As `cloned`.
#[inline(never)]
fn provided<'a>(credentials: &Credentials) -> future::ProvideCredentials<'a> {
    future::ProvideCredentials::ready(Ok(credentials.clone()))
}

/// What the newest set is told to `tell`; `None` when there is none yet.
pub(super) fn newest<T>(
    view: Entry<'_>,
    tell: impl FnOnce(Life, &SetRecord<'_>) -> T,
) -> Result<Option<T>, Fault> {
    // Looked at first: what is published after this look is whole.
    let is_empty = view.published().is_empty();
    let mut words = FewWords::default();
    match view.sets().read(&mut words) {
        Some(version) => told(view, version, &words, tell).map(Some),
        None if is_empty => Ok(None),
        None => newest_of_any_size(view, tell).map(Some),
    }
}

/// The same for a set that takes many words, and for one that is damaged.
// A function of its own, so that others have no place for so many words on the stack.
#[cold]
#[inline(never)]
fn newest_of_any_size<T>(
    view: Entry<'_>,
    tell: impl FnOnce(Life, &SetRecord<'_>) -> T,
) -> Result<T, Fault> {
    let mut words = Words::default();
    match view.sets().read(&mut words) {
        Some(version) => told(view, version, &words, tell),
        None => Err(damaged("the set")),
    }
}

fn told<T>(
    view: Entry<'_>,
    version: Version,
    words: &[u64],
    tell: impl FnOnce(Life, &SetRecord<'_>) -> T,
) -> Result<T, Fault> {
    let record = SetRecord::decode(words, view.key()).ok_or_else(|| damaged("the set"))?;
    Ok(tell(Life::of(version, &record), &record))
}

/// Which set it is, and its points in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) version: Version,
    pub(super) points: Points,
    pub(super) fetched: u64,
}

impl Life {
    fn of(version: Version, record: &SetRecord<'_>) -> Self {
        let points = Points {
            advisory: record.advisory_boot,
            mandatory: record.mandatory_boot,
            expires: record.expires_boot,
        };
        Life { version, points, fetched: record.fetched_boot }
    }

    pub(super) fn phase(&self, now: u64) -> Phase {
        let Points { advisory, mandatory, expires } = self.points;
        if now >= expires {
            Phase::Expired
        } else if now >= mandatory || self.version.is_rejected() {
            Phase::Mandatory
        } else if now >= advisory {
            Phase::Advisory
        } else {
            Phase::Fresh
        }
    }

    /// How long the set was valid when it was fetched.
    pub(super) fn length(&self) -> Duration {
        Duration::from_nanos(self.points.expires.saturating_sub(self.fetched))
    }

    /// Whether the set is rejected so soon after it was fetched that this alone causes no call.
    pub(super) fn is_rejected_too_soon(&self, now: u64) -> bool {
        let until = self.fetched.saturating_add(REJECTION_FLOOR).min(self.points.mandatory);
        self.version.is_rejected() && now < until
    }
}

impl Snapshot {
    /// The newest set; `None` when there is none yet.
    pub(super) fn read(view: Entry<'_>) -> Result<Option<Self>, Fault> {
        Snapshot::read_in(view, &mut None)
    }

    /// The same. The secrets are in `room`, if there is any.
    pub(super) fn read_in(
        view: Entry<'_>,
        room: &mut Option<SecretRoom>,
    ) -> Result<Option<Self>, Fault> {
        newest(view, |life, record| Snapshot::new(life, record, room.take()))
    }

    /// Room for the set that follows this one, and for tokens that are longer by one in `slack`: those of one source differ
    /// by a few bytes.
    pub(super) fn room_for_next(&self, slack: usize) -> SecretRoom {
        let set = &self.credentials;
        let secrets = [set.secret_access_key(), set.session_token().unwrap_or("")];
        SecretRoom::with_room(secrets.map(|text| text.len() + text.len() / slack))
    }

    fn new(life: Life, record: &SetRecord<'_>, room: Option<SecretRoom>) -> Self {
        let secrets = [record.secret_access_key, record.session_token];
        let room = room.unwrap_or_else(|| SecretRoom::for_set(secrets.map(str::len)));
        let [secret, token] = room.hold(secrets);
        let mut credentials = Credentials::builder()
            .access_key_id(record.access_key_id)
            .secret_access_key(secret)
            .expiry(UNIX_EPOCH + Duration::from_nanos(record.expires_unix))
            .provider_name(PROVIDER_NAME);
        credentials.set_session_token(Some(token).filter(|token| !token.is_empty()));
        let account = Some(record.account_id).filter(|account| !account.is_empty());
        credentials.set_account_id(account.map(Into::into));
        Snapshot { life, credentials: credentials.build(), verified: AtomicU64::new(u64::MAX) }
    }

    /// Whether the set was looked at in this tick of the clock.
    // Relaxed, here and below: the tick orders nothing but itself.
    #[inline]
    pub(super) fn is_verified(&self, tick: u64) -> bool {
        self.verified.load(Ordering::Relaxed) == tick
    }

    pub(super) fn verify(&self, tick: u64) {
        self.verified.store(tick, Ordering::Relaxed);
    }
}

/// The segment's words make no sense: only another program can have written them.
fn damaged(what: &str) -> Fault {
    Fault::new(ErrorKind::BadChecksum, format!("{what} in the segment fails its checksum"))
}
