//! An `AssumeRole` as plain values.

use super::{AssumeRole, Base};
use crate::source::{
    Source,
    portable::{PortableSource, Recipe, Role, RoleBase},
};

/// `None` for a role that asks closures.
pub(super) fn of(role: &AssumeRole) -> Option<PortableSource> {
    // A new field does not compile until it is handed over. The settings are those of a role that a profile assumes,
    // which is no source of a session.
    let AssumeRole { inputs, mfa, settings: _, base } = role.clone();
    let base = match base {
        Base::DefaultChain => RoleBase::DefaultChain,
        Base::Provider(provider) => RoleBase::Source(provider.portable()?),
        Base::Source(source) => RoleBase::Source(source.portable()?),
        Base::Keys(keys) => RoleBase::Keys {
            id: keys.access_key_id().to_owned(),
            secret: keys.secret_access_key().to_owned(),
            token: keys.session_token().map(str::to_owned),
        },
        Base::Ready(_) => return None,
    };
    let mfa = match mfa {
        Some(mfa) => Some(mfa.portable()?),
        None => None,
    };
    Some(PortableSource(Recipe::AssumeRole(Box::new(Role { inputs, mfa, base }))))
}
