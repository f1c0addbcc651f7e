//! Whose the credentials are.

use shmcreds::{
    AssumeRole, CredentialProcess,
    testing::{Fault, LocalSts, Times},
};

use crate::{
    Made, of,
    sources::{environment, set_json},
    support::{child, name, role},
};

pub fn whose_they_are() {
    let sts = LocalSts::fork().unwrap();
    let user = "arn:aws:iam::123456789012:user/local";
    let hub = "arn:aws:sts::123456789012:assumed-role/app/hub";
    let app = "arn:aws:sts::210987654321:assumed-role/app/web";
    let chain = AssumeRole::new("arn:aws:iam::210987654321:role/app")
        .session_name("web")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .base_source(role(&sts).session_name("hub"));
    let set = set_json(1);
    let rows: [(Made, &str, &str); 3] = [
        (of(role(&sts).session_name("hub")), hub, user),
        (of(chain), app, hub),
        // STS is the environment's, and the source is who its sets are of.
        (of(CredentialProcess::new(["/bin/echo", &set])), user, user),
    ];
    for (make, shared, own) in rows {
        child(|_| {
            environment(&[("AWS_ENDPOINT_URL_STS", &sts.url())]);
            let session = make(&name("whose"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let identity = session.identity().await.unwrap();
                assert_eq!(identity.arn, shared);
                assert_eq!(identity.account, shared.split(':').nth(4).unwrap());
                assert_eq!(session.source_identity().await.unwrap().arn, own);
                sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
                let error = session.source_identity().await.unwrap_err();
                assert_eq!(error.operation(), "source_identity", "{error}");
                assert!(error.to_string().contains("request id"), "{error}");
                sts.clear_faults().unwrap();
            });
        })
        .finish();
    }
}
