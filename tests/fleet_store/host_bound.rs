//! Sources whose sets a fleet cannot share.

use shmcreds::{
    AssumeRole, Fleet, Identified, IotCore, Pem, Profile, Provider, SharedSession, Source,
};

use crate::{
    budget::fleet,
    server::Server,
    shared_set::{KEY, sharing},
    support::name,
};

pub fn host_bound_sources() {
    let server = Server::start();
    let role = || AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("test");
    let pem = || Pem::file("/no/such/file");
    let bound: [(Create, &str); 8] = [
        (refused(Provider::imds), "the instance metadata identify this host"),
        // The identity that a program gives does not change what the source is.
        (
            refused(|| Identified::new(Provider::imds(), Provider::imds().fingerprint())),
            "the instance metadata identify this host",
        ),
        (refused(Provider::container), "the container endpoint identifies this host"),
        (refused(Provider::default_chain), "the default chain may lead to"),
        (refused(|| Provider::profile("app")), "a profile may lead to"),
        (refused(|| Profile::new("app")), "a profile may lead to"),
        (
            refused(move || {
                role().mfa("arn:aws:iam::123456789012:mfa/a", || async {
                    Ok::<_, String>("1".to_owned())
                })
            }),
            "an MFA device confirms",
        ),
        (
            refused(move || {
                IotCore::new(
                    "abc.credentials.iot.eu-central-1.amazonaws.com",
                    "alias",
                    pem(),
                    pem(),
                )
                .thing_name("a")
            }),
            "the certificate identifies",
        ),
    ];
    for (create, reason) in bound {
        let error = create(sharing(&server, KEY));
        assert!(
            error.to_string().contains(&format!("fleet: share_set: {reason}")),
            "{reason}: {error}"
        );
        // The budget alone is for each source.
        let error = create(fleet(&server));
        assert!(!error.to_string().contains("fleet"), "{error}");
    }
}

/// Makes a session in a fleet, which fails.
type Create = Box<dyn Fn(Fleet) -> shmcreds::Error>;

/// The error of a session of this source.
fn refused<S: Source>(source: impl Fn() -> S + 'static) -> Create {
    Box::new(move |fleet| {
        let builder = SharedSession::builder(name("bound")).source(source()).fleet(fleet);
        // Without its directory no session is made, but its settings are checked.
        builder.directory("/no/such/directory").create().unwrap_err()
    })
}
