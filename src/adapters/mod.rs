//! The session as a source of credentials for libraries that sign without the AWS SDK.

#[cfg(feature = "object-store")]
mod object_store;
#[cfg(feature = "opendal")]
mod opendal;
