//! The keys that a shared set is encrypted with.

use shmcreds::{FleetRole, testing::LocalSts};

use crate::{
    budget::RARE,
    server::Server,
    shared_set::{KEY, OTHER, SET, VARIABLE, host, key, sharing, status},
    support::{BASE_SECRET, assert_whole, instant, role},
};

pub fn a_wrong_key() {
    let server = Server::start();
    let first = host(instant(), || sharing(&server, KEY), key);
    let alone = host(
        instant(),
        || sharing(&server, OTHER),
        |session| {
            let set = session.credentials().unwrap();
            assert_whole(&set);
            assert_eq!((status(session).unusable, status(session).taken), (1, 0));
            let text = session.status().unwrap().to_string();
            assert!(text.contains(", sets taken 0, given 1, unusable 1"), "{text}");
            set.access_key_id().to_owned()
        },
    );
    assert_ne!(alone, first);
    // A key that disappears stops the sharing, not the credentials.
    host(
        instant(),
        || sharing(&server, KEY),
        |session| {
            // SAFETY: the process has one thread.
            unsafe { std::env::remove_var(VARIABLE) };
            key(session);
            assert_eq!((status(session).unusable, status(session).given), (1, 0));
            String::new()
        },
    );
}

pub fn keys_are_replaced() {
    let server = Server::start();
    let steps =
        [KEY, &format!("{KEY} {OTHER}"), &format!("{OTHER} {KEY}"), OTHER].map(str::to_owned);
    for (before, after) in steps.iter().zip(&steps[1..]) {
        let taken_by = |keys: &str, expected: &str| {
            let taken = host(
                instant(),
                || sharing(&server, keys),
                |session| {
                    let key = key(session);
                    assert_eq!(
                        (status(session).role, status(session).unusable),
                        (FleetRole::Follower, 0)
                    );
                    key
                },
            );
            assert_eq!(taken, expected);
        };
        // Half of the hosts have the new keys already, and each half fetches once.
        for (leader, follower) in [(before, after), (after, before)] {
            let set = host(
                instant(),
                || sharing(&server, leader),
                |session| {
                    session.credentials().unwrap();
                    session.refresh().unwrap().access_key_id().to_owned()
                },
            );
            taken_by(follower, &set);
        }
    }
}

pub fn nothing_is_secret() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    let said = host(
        role(&sts).external_id("tenant-42-secret"),
        // The store forgets a budget soon after its calls are due again.
        || sharing(&server, KEY).budget("default", RARE),
        |session| {
            let set = session.credentials().unwrap();
            format!(
                "{} {} {}",
                set.access_key_id(),
                set.secret_access_key(),
                set.session_token().unwrap()
            )
        },
    );
    let dump = server.dump();
    let has = |text: &str| dump.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(
        has(SET) && has("sealed") && has("shmcreds:{default}:budget"),
        "the dump shows what is in clear"
    );
    let secrets = said.split(' ').chain([
        KEY,
        &KEY[..16],
        BASE_SECRET,
        "AKIAIOSFODNN7EXAMPLE",
        "tenant-42",
        "arn:aws",
        "123456789012",
    ]);
    for secret in secrets {
        assert!(secret.len() >= 7 && !has(secret), "{secret} is in the store");
        assert!(!has(&secret[secret.len() / 2..]) || secret.len() < 20, "a part of {secret}");
    }
}
