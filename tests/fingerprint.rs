//! Two processes meet under one name only if their credentials would be those of one identity.
#![allow(unsafe_code)]

#[path = "support/sources.rs"]
mod sources;
mod support;

use std::{fs, os::unix::fs::symlink, path::Path};

use aws_credential_types::Credentials;
use shmcreds::{
    AssumeRole, CredentialProcess, ErrorKind, IotCore, Pem, Provider, SharedSession, Source,
};
use sources::environment;
use support::{StopFile, child, name, until};

fn main() {
    support::run_forking(&[
        ("processes_of_other_profiles_do_not_meet", processes_of_other_profiles_do_not_meet),
        ("processes_of_other_base_keys_do_not_meet", processes_of_other_base_keys_do_not_meet),
        ("processes_of_other_external_ids_do_not_meet", processes_of_other_external_ids),
        ("roles_with_a_long_common_path_do_not_meet", roles_with_a_long_common_path_do_not_meet),
        ("long_start_urls_do_not_meet", long_start_urls_do_not_meet),
        ("each_variable_changes_the_fingerprint", each_variable_changes_the_fingerprint),
        ("an_empty_variable_is_an_absent_one", an_empty_variable_is_an_absent_one),
        ("what_a_source_does_not_read_does_not_count", what_a_source_does_not_read_does_not_count),
        ("the_place_of_a_file_counts", the_place_of_a_file_counts),
        ("a_renewed_file_is_the_same_file", a_renewed_file_is_the_same_file),
        ("a_program_is_the_one_that_is_found", a_program_is_the_one_that_is_found),
        ("a_device_is_its_certificate", a_device_is_its_certificate),
    ]);
}

/// Variables of an environment.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// What becomes of an attach in a process of its own, whose creator is another one.
fn attach<A: Source, B: Source>(
    theirs: (Variables<'_>, fn() -> A),
    ours: (Variables<'_>, fn() -> B),
) -> String {
    let session = name("fingerprint");
    let stop = StopFile::new(&session);
    let mut creator = child(|report| {
        environment(theirs.0);
        let made = SharedSession::builder(&session).source(theirs.1()).create().unwrap();
        report.say(".");
        until("the other is done", || stop.is_there());
        drop(made);
    });
    creator.hear();
    let other = child(|report| {
        environment(ours.0);
        report.say(match SharedSession::builder(&session).source(ours.1()).attach() {
            Ok(_) => "attached".to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        });
    });
    let outcome = other.finish();
    stop.end(vec![creator]);
    outcome
}

fn wrong() -> String {
    format!("{:?}", ErrorKind::WrongSource)
}

fn processes_of_other_profiles_do_not_meet() {
    let (prod, dev): (&[_], &[_]) = (&[("AWS_PROFILE", "prod")], &[("AWS_PROFILE", "dev")]);
    let chain = Provider::default_chain as fn() -> Provider;
    assert_eq!(attach((prod, chain), (prod, chain)), "attached");
    assert_eq!(attach((prod, chain), (dev, chain)), wrong());
    // The same as the base of a role.
    let role = || AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("web");
    assert_eq!(attach((prod, role), (prod, role)), "attached");
    assert_eq!(attach((prod, role), (dev, role)), wrong());
}

fn processes_of_other_base_keys_do_not_meet() {
    let variables = |id: &'static str, secret: &'static str| {
        [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]
    };
    let (one, other) = (variables("AKIA1", "one"), variables("AKIA2", "two"));
    assert_eq!(attach((&one, assume), (&one, assume)), "attached");
    assert_eq!(attach((&one, assume), (&other, assume)), wrong());
    assert_eq!(attach((&one, assume), (&variables("AKIA1", "two"), assume)), wrong());
    // The same keys, said by the program.
    fn keys(id: &str, secret: &str) -> AssumeRole {
        assume().base_keys(Credentials::new(id, secret, None, None, "test"))
    }
    let said: fn() -> AssumeRole = || keys("AKIA1", "one");
    for other in [|| keys("AKIA2", "one"), || keys("AKIA1", "two"), assume] {
        assert_eq!(attach((&[], said), (&[], other)), wrong());
    }
    assert_eq!(attach((&[], said), (&[], said)), "attached");
    // The environment says nothing of keys that the program gives.
    let given = || keys("AKIA1", "one").region("us-east-1").endpoint_url("https://sts.example");
    assert_eq!(print(&one, given), print(&other, given));
    assert_eq!(print(&[("AWS_PROFILE", "prod")], given), print(&[], given));
}

fn processes_of_other_external_ids() {
    let one: fn() -> AssumeRole = || assume().external_id("tenant-1");
    for other in [|| assume().external_id("tenant-2"), assume] {
        assert_eq!(attach((&[], one), (&[], other)), wrong());
    }
    assert_eq!(attach((&[], one), (&[], one)), "attached");
}

fn roles_with_a_long_common_path_do_not_meet() {
    let path = "p/".repeat(128);
    let [one, other] =
        ["one", "two"].map(|role| format!("arn:aws:iam::123456789012:role/{path}{role}"));
    let web: fn() -> Provider = Provider::web_identity;
    let (one, other) = ([("AWS_ROLE_ARN", one.as_str())], [("AWS_ROLE_ARN", other.as_str())]);
    assert_eq!(attach((&one, web), (&one, web)), "attached");
    assert_eq!(attach((&one, web), (&other, web)), wrong());
}

fn long_start_urls_do_not_meet() {
    fn sso(last: &str) -> Provider {
        let url = format!("https://example.awsapps.com/{}/{last}", "start".repeat(60));
        Provider::sso(url, "us-east-1", "123456789012", "reader")
    }
    let one: fn() -> Provider = || sso("one");
    let two: fn() -> Provider = || sso("two");
    assert_eq!(attach((&[], one), (&[], one)), "attached");
    assert_eq!(attach((&[], one), (&[], two)), wrong());
}

/// The fingerprint of the source in a process with that environment.
fn print<S: Source>(variables: &[(&str, &str)], source: impl FnOnce() -> S) -> String {
    child(|report| {
        environment(variables);
        report.say(format!("{:02x?}", source().fingerprint()));
    })
    .finish()
}

fn assume() -> AssumeRole {
    AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("web")
}

fn process() -> CredentialProcess {
    CredentialProcess::new(["/bin/true"])
}

/// A source, and the variables that it reads.
type Row = (&'static str, Box<dyn Fn(&[(&str, &str)]) -> String>, Vec<&'static str>);

const PROFILE: [&str; 5] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_REGION",
];
const KEYS: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
const WEB: [&str; 3] = ["AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"];
const CONTAINER: [&str; 4] = [
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
const METADATA: [&str; 4] = [
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_V1_DISABLED",
];
const PLACE: [&str; 6] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
];

fn rows() -> [Row; 8] {
    let all = [&PROFILE[..], &KEYS, &WEB, &CONTAINER, &METADATA, &PLACE, &["HOME"]].concat();
    let of_role = all.clone();
    let sso = || Provider::sso(sources::START_URL, "us-east-1", "123456789012", "reader");
    [
        ("the chain", Box::new(|of: &[_]| print(of, Provider::default_chain)), all.clone()),
        ("a profile", Box::new(|of: &[_]| print(of, || Provider::profile("app"))), all.clone()),
        ("a role", Box::new(|of: &[_]| print(of, assume)), of_role),
        ("a program", Box::new(|of: &[_]| print(of, process)), all),
        (
            "a web identity",
            Box::new(|of: &[_]| print(of, Provider::web_identity)),
            [&PROFILE[..], &WEB, &PLACE].concat(),
        ),
        ("a container", Box::new(|of: &[_]| print(of, Provider::container)), CONTAINER.to_vec()),
        (
            "an instance",
            Box::new(|of: &[_]| print(of, Provider::imds)),
            [&METADATA[..], &PROFILE[..4]].concat(),
        ),
        (
            "a sign-on",
            Box::new(move |of: &[_]| print(of, sso)),
            [&PROFILE[..], &PLACE, &["HOME"]].concat(),
        ),
    ]
}

fn each_variable_changes_the_fingerprint() {
    for (what, print, variables) in rows() {
        let without = print(&[]);
        assert_eq!(without, print(&[]), "{what}");
        for variable in variables {
            // Long, and different at the end alone.
            let [one, two] = ["one", "two"].map(|last| format!("/{}/{last}", "x".repeat(300)));
            let one = print(&[(variable, one.as_str())]);
            let two = print(&[(variable, two.as_str())]);
            assert_ne!(one, two, "{what} with {variable}");
            assert_ne!(one, without, "{what} with {variable} and without");
        }
    }
}

fn an_empty_variable_is_an_absent_one() {
    for variable in [&PROFILE[..], &KEYS, &WEB, &CONTAINER, &METADATA, &PLACE, &["HOME"]].concat() {
        let with = |empty: bool| {
            print(&[(variable, "")], || {
                if empty {
                    // SAFETY: the process has one thread.
                    unsafe { std::env::set_var(variable, "") };
                }
                Provider::default_chain()
            })
        };
        assert_eq!(with(true), with(false), "{variable}");
    }
}

fn what_a_source_does_not_read_does_not_count() {
    let others = [("AWS_ACCESS_KEY_ID", "ASIA1"), ("AWS_ROLE_ARN", "x"), ("LANG", "C")];
    let keys = |of: &[_]| print(of, Provider::container);
    assert_eq!(keys(&others), keys(&[]));
    let imds = |of: &[_]| print(of, Provider::imds);
    assert_eq!(imds(&others), imds(&[]));
    // All is said here.
    let given = || {
        let role = assume().region("us-east-1").endpoint_url("https://sts.example");
        role.base_source(Provider::container())
    };
    let place = [("AWS_REGION", "eu-west-1"), ("AWS_PROFILE", "dev")];
    assert_eq!(print(&place, given), print(&[], given));
    // Only an answer's place counts, not what its proxy, its certificates or its retries are.
    let chain = |of: &[_]| print(of, Provider::default_chain);
    let ways = [("AWS_MAX_ATTEMPTS", "9"), ("HTTPS_PROXY", "http://proxy"), ("AWS_CA_BUNDLE", "x")];
    assert_eq!(chain(&ways), chain(&[]));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn the_place_of_a_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (real, other) = (folder.path().join("real"), folder.path().join("other"));
    fs::create_dir_all(real.join(".aws")).unwrap();
    fs::create_dir_all(other.join(".aws")).unwrap();
    let link = folder.path().join("link");
    symlink(&real, &link).unwrap();
    let at = |home: &Path| {
        // The default files are those of the home directory.
        let (config, credentials) = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE");
        print(&[("HOME", path(home)), (config, ""), (credentials, "")], Provider::default_chain)
    };
    assert_eq!(at(&real), at(&link));
    assert_eq!(at(&real), at(&other.join("../real")));
    assert_ne!(at(&real), at(&other));
    // Said or not, it is the same file.
    let said = real.join(".aws/config");
    let credentials = real.join(".aws/credentials");
    for config in [path(&said), "~/.aws/config"] {
        let all = [
            ("HOME", path(&real)),
            ("AWS_CONFIG_FILE", config),
            ("AWS_SHARED_CREDENTIALS_FILE", path(&credentials)),
        ];
        assert_eq!(print(&all, Provider::default_chain), at(&real), "{config}");
    }
}

/// As Kubernetes does it: the name leads to another file each time.
fn a_renewed_file_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let at = |round: u32| {
        let version = folder.path().join(format!("..{round}"));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("token"), round.to_string()).unwrap();
        let _ = fs::remove_file(&token);
        symlink(version.join("token"), &token).unwrap();
        print(&[("AWS_WEB_IDENTITY_TOKEN_FILE", path(&token))], Provider::web_identity)
    };
    let absent = print(&[("AWS_WEB_IDENTITY_TOKEN_FILE", path(&token))], Provider::web_identity);
    assert_eq!(absent, at(1));
    assert_eq!(absent, at(2));
}

fn a_program_is_the_one_that_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    for place in [&one, &two] {
        fs::create_dir(place).unwrap();
        fs::write(place.join("helper"), "").unwrap();
    }
    let by_path =
        |place: &Path| print(&[("PATH", path(place))], || CredentialProcess::new(["helper"]));
    assert_ne!(by_path(&one), by_path(&two));
    assert_eq!(by_path(&one), by_path(&two.join("../one")));
    let argument =
        |text: &'static str| print(&[], move || CredentialProcess::new(["/bin/echo", text]));
    assert_ne!(argument("one"), argument("two"));
}

fn a_device_is_its_certificate() {
    let device = |certificate: Pem, alias: &'static str| {
        print(&[], move || IotCore::new("host", alias, certificate, Pem::text("key")))
    };
    let one = device(Pem::text("one"), "app");
    assert_eq!(one, device(Pem::text("one"), "app"));
    let others = [
        device(Pem::text("two"), "app"),
        device(Pem::text("one"), "other"),
        device(Pem::file("one"), "app"),
        print(&[], || {
            let (certificate, key) = (Pem::text("one"), Pem::text("key"));
            IotCore::new("host", "app", certificate, key).thing_name("none")
        }),
    ];
    for other in others {
        assert_ne!(other, one);
    }
    let slow = || {
        let (certificate, key) = (Pem::text("one"), Pem::text("key"));
        IotCore::new("host", "app", certificate, key).timeout(std::time::Duration::from_secs(1))
    };
    assert_eq!(print(&[], slow), one);
}
