//! The log of the calls that reached the embedded STS.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::query::Signer;

/// One call, as the embedded STS saw it. Holds no secret access key and no session token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Call {
    /// Place in the order of arrival, from 1. Clearing the log does not start it anew.
    pub number: u64,
    /// `Action` of the request; empty if it had none.
    pub action: String,
    /// All form inputs as they were sent, save that tokens and assertions which would authenticate
    /// the caller are replaced by their length: `<redacted: 6 bytes>`.
    pub parameters: BTreeMap<String, String>,
    /// The access key id that signed the request, if it was signed.
    pub access_key_id: Option<String>,
    /// The Region that it was signed for.
    #[serde(default)]
    pub region: Option<String>,
    /// When the request had arrived in full, by the true clock.
    pub received: SystemTime,
    /// HTTP status of the answer; `None` while the call waits, and for good if it fell to
    /// [`Fault::BlackHole`](super::Fault::BlackHole) or [`Fault::Reset`](super::Fault::Reset).
    pub status: Option<u16>,
    /// Access key id of the credentials in the answer.
    pub issued_access_key_id: Option<String>,
}

/// Inputs that authenticate a caller by themselves.
const SECRET_INPUTS: [&str; 3] = ["SAMLAssertion", "TokenCode", "WebIdentityToken"];

/// The calls in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    calls: Vec<Call>,
    last: u64,
}

impl CallLog {
    /// Enters a call that has just arrived and returns its number.
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

    /// Notes the answer to a call, unless the log was cleared in the meantime.
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
