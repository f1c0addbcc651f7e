//! An `AssumeRole` as plain values.

use super::{AssumeRole, Base};
use crate::source::{
    Source,
    portable::{PortableSource, Recipe, Role, RoleBase},
    profile::ProxyUrl,
};

/// `None` for a role that asks closures.
pub(super) fn of(role: &AssumeRole) -> Option<PortableSource> {
    // A new field does not compile until it is handed over.
    let AssumeRole {
        role_arn,
        session_name,
        duration,
        external_id,
        policy,
        policy_arns,
        tags,
        transitive_tag_keys,
        source_identity,
        provided_contexts,
        region,
        regions,
        endpoint_url,
        ca_bundle,
        proxy,
        connect_timeout,
        read_timeout,
        operation_timeout,
        max_attempts,
        mfa,
        profile,
        // Of a role that a profile assumes, which is no source of a session.
        settings: _,
        base,
    } = role.clone();
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
    Some(PortableSource(Recipe::AssumeRole(Box::new(Role {
        role_arn,
        session_name,
        duration,
        external_id,
        policy,
        policy_arns,
        tags,
        transitive_tag_keys,
        source_identity,
        provided_contexts,
        region,
        regions,
        endpoint_url,
        ca_bundle,
        proxy: proxy.map(ProxyUrl::into_url),
        connect_timeout,
        read_timeout,
        operation_timeout,
        max_attempts,
        mfa,
        profile,
        base,
    }))))
}
