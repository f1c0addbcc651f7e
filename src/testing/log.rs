//! The log of calls to the embedded STS.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::query::Signer;

/// A call, as the embedded STS received it. Contains no secret access key and no session token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Call {
    /// The position in the order of arrival, from 1. It continues after the log is cleared.
    pub number: u64,
    /// `Action` of the request; empty if it had none.
    pub action: String,
    /// All form inputs as sent. Tokens and assertions that authenticate the caller are replaced by their length:
    /// `<redacted: 6 bytes>`.
    pub parameters: BTreeMap<String, String>,
    /// The access key id of the signature, if the request was signed.
    pub access_key_id: Option<String>,
    /// The Region of the signature.
    #[serde(default)]
    pub region: Option<String>,
    /// When the complete request had arrived, by the real clock.
    pub received: SystemTime,
    /// HTTP status of the answer. `None` while the call waits. It stays `None` after
    /// [`Fault::BlackHole`](super::Fault::BlackHole) and [`Fault::Reset`](super::Fault::Reset).
    pub status: Option<u16>,
    /// The access key id of the credentials in the answer.
    pub issued_access_key_id: Option<String>,
}

/// The inputs that authenticate a caller.
const SECRET_INPUTS: [&str; 3] = ["SAMLAssertion", "TokenCode", "WebIdentityToken"];

/// The calls in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    calls: Vec<Call>,
    last: u64,
}

impl CallLog {
    /// Adds a new call and returns its number.
    pub(crate) fn arrived(
        &mut self,
        mut parameters: BTreeMap<String, String>,
        signer: Option<Signer>,
    ) -> u64 {
        for name in SECRET_INPUTS {
            if let Some(value) = parameters.get_mut(name) {
                *value = format!("<redacted: {} bytes>", value.len());
            }
        }
        self.last += 1;
        let (access_key_id, region) = match signer {
            Some(Signer { access_key_id, region }) => (Some(access_key_id), region),
            None => (None, None),
        };
        self.calls.push(Call {
            number: self.last,
            action: parameters.get("Action").cloned().unwrap_or_default(),
            parameters,
            access_key_id,
            region,
            received: SystemTime::now(),
            status: None,
            issued_access_key_id: None,
        });
        self.last
    }

    /// Adds the answer to a call, unless the log was cleared in the meantime.
    pub(crate) fn answered(&mut self, number: u64, status: u16, issued: Option<String>) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.number == number) {
            call.status = Some(status);
            call.issued_access_key_id = issued;
        }
    }

    pub(crate) fn calls(&self) -> &[Call] {
        &self.calls
    }

    pub(crate) fn clear(&mut self) {
        self.calls.clear();
    }
}
