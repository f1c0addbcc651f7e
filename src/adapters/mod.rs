//! The session as a source of credentials for libraries that sign without the AWS SDK.

#[cfg(any(feature = "object-store", feature = "object-store-0-13"))]
mod object_store;
#[cfg(feature = "opendal")]
mod opendal;
