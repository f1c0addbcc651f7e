//! What a client may send to the endpoint: anything.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use shmcreds::testing::LocalSts;

use crate::{harness::*, requests::Endpoint};

#[test]
fn a_client_may_send_anything() {
    let sts = LocalSts::start().unwrap();
    let (running, url, token) = kept(&sts, &name("bytes"));
    let set = credentials(&url, &token);
    let endpoint = Endpoint {
        host: address(&url).to_owned(),
        token: token.clone(),
        secret: set["SecretAccessKey"].as_str().unwrap().to_owned(),
    };
    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&vec(any::<u8>(), 0..300), |data| {
        endpoint.attack(&data);
        Ok(())
    });
    run.unwrap();
    // It has borne all of that.
    assert_eq!(credentials(&url, &token), set);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}
