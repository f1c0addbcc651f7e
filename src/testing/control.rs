//! Control of a running server, over the same port as its service.
//!
//! HTTP rather than memory, so that every process that inherited the handle through a fork can
//! look at the log and inject faults.

use std::{io, net::SocketAddr, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use ureq::Agent;

use super::service::Service;

/// What the paths of control begin with.
pub(crate) const PREFIX: &str = "/_control/";

/// Longest wait for each step of a control call.
const PATIENCE: Duration = Duration::from_secs(5);

/// Server side: obeys the command, and returns what to answer in JSON.
pub(crate) fn obey(service: &mut Service, command: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    match command {
        "calls" => return Ok(serde_json::to_vec(service.log.calls())?),
        "clear-calls" => service.log.clear(),
        "inject" => {
            let (fault, times) = serde_json::from_slice(body)?;
            service.faults.push(fault, times);
        }
        "clear-faults" => service.faults.clear(),
        "configure" => service.settings = serde_json::from_slice(body)?,
        other => return Err(io::Error::new(io::ErrorKind::NotFound, other.to_owned())),
    }
    Ok(b"null".to_vec())
}

/// Client side: gives a command and waits for the answer.
pub(crate) fn command<T: DeserializeOwned>(
    server: SocketAddr,
    name: &str,
    argument: &impl Serialize,
) -> io::Result<T> {
    let url = format!("http://{server}{PREFIX}{name}");
    let mut response =
        agent().post(&url).header("Connection", "close").send_json(argument).map_err(to_io)?;
    // The log of a long test may be longer than the limit of ureq.
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_vec().map_err(to_io)?;
    Ok(serde_json::from_slice(&body)?)
}

/// An agent for one call, of which nothing survives: no pooled connection, no thread.
fn agent() -> Agent {
    Agent::config_builder()
        .proxy(None)
        .max_idle_connections(0)
        // Every step but the look-up of the name has its limit. A limit on that one, or on the
        // whole, would make ureq start a thread for it.
        .timeout_connect(Some(PATIENCE))
        .timeout_send_request(Some(PATIENCE))
        .timeout_send_body(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_recv_body(Some(PATIENCE))
        .build()
        .new_agent()
}

fn to_io(error: ureq::Error) -> io::Error {
    match error {
        ureq::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
