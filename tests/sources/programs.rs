//! Programs and closures that give a set.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use nix::sys::signal::{SigHandler, Signal, signal};
use shmcreds::{
    CredentialProcess, ErrorKind, Provider, SharedSession,
    testing::{Fault, LocalSts, Times},
};

use crate::{
    of,
    sources::{environment, set_json},
    support::{child, name},
    three_cycles,
};

pub fn a_program() {
    let folder = tempfile::tempdir().unwrap();
    let answer = folder.path().join("answer");
    let source = || of(CredentialProcess::new(["/bin/cat", answer.to_str().unwrap()]));
    let write = |cycle| fs::write(&answer, set_json(cycle as u32)).unwrap();
    let keys = three_cycles(&[], source, write);
    assert_eq!(keys, ["ASIA0", "ASIA1", "ASIA2"]);
}

/// As one does that starts a daemon: it answers and ends, and the daemon has its standard output.
pub fn a_program_that_leaves_something_running() {
    let folder = tempfile::tempdir().unwrap();
    let set = set_json(1);
    let script = "while test -e \"$0\"; do sleep 0.05; done & echo \"$1\"";
    let folder = folder.path().to_str().unwrap();
    let source = || of(CredentialProcess::new(["/bin/sh", "-c", script, folder, &set]));
    assert_eq!(three_cycles(&[], source, |_| {}), ["ASIA1"; 3]);
}

/// The kernel keeps no exit status for a process that ignores SIGCHLD, as some servers do.
pub fn a_program_whose_end_nobody_sees() {
    let set = set_json(1);
    let ask = |script: &str| {
        child(|report| {
            // SAFETY: the process has one thread, and no handler is installed.
            unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
            let source = CredentialProcess::new(["/bin/sh", "-c", script, &set]);
            let session = SharedSession::builder(name("unseen")).source(source).create().unwrap();
            report.say(match session.credentials() {
                Ok(set) => set.access_key_id().to_owned(),
                Err(error) => error.to_string(),
            });
        })
        .finish()
    };
    assert_eq!(ask("echo \"$0\""), "ASIA1");
    let said = ask("exit 3");
    assert!(said.contains("gave no usable set"), "{said}");
}

pub fn a_closure() {
    let folder = tempfile::tempdir().unwrap();
    let vault = folder.path().join("vault");
    let known = vault.clone();
    let ask = move || {
        let key = fs::read_to_string(&known);
        async {
            let hour = SystemTime::now() + Duration::from_secs(3600);
            key.map(|key| {
                Credentials::new(key, "secret", Some("token".into()), Some(hour), "vault")
            })
        }
    };
    let write = |cycle: usize| fs::write(&vault, format!("ASIA{cycle}")).unwrap();
    let keys = three_cycles(&[], || of(Provider::from_fn("vault", ask)), write);
    assert_eq!(keys, ["ASIA0", "ASIA1", "ASIA2"]);
}

/// Those of the service, also where the SDK has a type of its own for the error.
pub fn a_refusal_keeps_its_code_and_its_id() {
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let text = "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\n\
                [profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = any\n";
    let (token, config) = (file("token", "signed"), file("config", text));
    let web_identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
        ("AWS_ENDPOINT_URL_STS", &sts.url()),
    ];
    let profile = [("AWS_CONFIG_FILE", config.as_str()), ("AWS_ENDPOINT_URL_STS", &sts.url())];
    use ErrorKind::{SourceMisconfigured, SourceTerminal};
    for (code, kind) in [
        ("AccessDenied", SourceTerminal),
        ("ExpiredTokenException", SourceTerminal),
        ("IDPRejectedClaim", SourceTerminal),
        ("PackedPolicyTooLarge", SourceMisconfigured),
        ("RegionDisabledException", SourceMisconfigured),
    ] {
        sts.clear_faults().unwrap();
        sts.inject(Fault::error(400, code, "no"), Times::UntilCleared).unwrap();
        let rows: [(Provider, &[(&str, &str)]); 2] =
            [(Provider::web_identity(), &web_identity), (Provider::profile("app"), &profile)];
        for (source, variables) in rows {
            child(|_| {
                environment(variables);
                let error = of(source)(&name("refusal")).credentials().unwrap_err();
                assert_eq!(error.kind(), kind, "{error}");
                let said = error.to_string();
                assert!(said.contains(&format!("{code}: no (request id 00000000-")), "{error}");
            })
            .finish();
        }
    }
}

pub fn an_absent_one_is_an_error() {
    type Make = fn() -> Provider;
    let sources: [(Make, &str); 5] = [
        (Provider::container, "container endpoint"),
        (Provider::imds, "instance metadata"),
        (Provider::web_identity, "web identity"),
        (|| Provider::profile("absent"), "profile absent"),
        (Provider::default_chain, "default chain"),
    ];
    for (make, what) in sources {
        child(|_| {
            environment(&[]);
            let session = of(make())(&name("absent"));
            let error = session.credentials().unwrap_err();
            let kinds = [ErrorKind::SourceMisconfigured, ErrorKind::SourceTransient];
            assert!(kinds.contains(&error.kind()) && error.to_string().contains(what), "{error}");
        })
        .finish();
    }
}
