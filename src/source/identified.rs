//! A source whose identity another program computes.

use std::{sync::Arc, time::Duration};

use aws_credential_types::Credentials;

use super::{
    Fetching, Fingerprint, Identifying, Source,
    portable::{PortableSource, Recipe},
};

/// A source with a fingerprint that the program gives: for programs in another language, which find each other by an
/// identity of their own. Some of their processes ask this source, and others make the call themselves, with a
/// [`ManualSource`](crate::ManualSource) of the same fingerprint.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct Identified {
    source: Arc<dyn Source>,
    fingerprint: Fingerprint,
}

impl Identified {
    /// `fingerprint` must tell apart all identities that the source can have.
    pub fn new(source: impl Source, fingerprint: Fingerprint) -> Self {
        Identified { source: Arc::new(source), fingerprint }
    }
}

impl Source for Identified {
    fn describe(&self) -> String {
        self.source.describe()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn validate(&self) -> Result<(), String> {
        self.source.validate()
    }

    fn timeout(&self) -> Duration {
        self.source.timeout()
    }

    fn is_role(&self) -> bool {
        self.source.is_role()
    }

    fn host_bound(&self) -> Option<String> {
        self.source.host_bound()
    }

    fn is_manual(&self) -> bool {
        self.source.is_manual()
    }

    fn portable(&self) -> Option<PortableSource> {
        let source = Box::new(self.source.portable()?);
        Some(PortableSource(Recipe::Identified { source, fingerprint: self.fingerprint }))
    }

    #[cfg(feature = "fleet-kms")]
    fn base_identity(&self) -> super::BaseIdentity<'_> {
        self.source.base_identity()
    }

    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        self.source.identify(credentials)
    }

    fn fetch(&self) -> Fetching<'_> {
        self.source.fetch()
    }
}
