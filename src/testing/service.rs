//! The state of the embedded STS, and its answers.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_smithy_types::date_time::{DateTime, Format};

use super::{
    credentials::{IssuedSet, unique_id},
    fault::{Fault, FaultQueue, Settings},
    log::CallLog,
    query::{AssumeRole, Inputs, Signer, StsError, element, nest, result_xml},
};

/// The account of callers with an access key id that this server did not issue.
pub(super) const ACCOUNT: &str = "123456789012";

/// The state of the server between calls.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) log: CallLog,
    pub(crate) faults: FaultQueue,
    pub(crate) settings: Settings,
    /// The identities of the issued access key ids.
    issued: HashMap<String, Identity>,
}

#[derive(Clone)]
struct Identity {
    arn: String,
    user_id: String,
    account: String,
}

/// A call that was read and logged.
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) inputs: Inputs,
    pub(crate) signer: Option<String>,
    pub(crate) fault: Option<Fault>,
    /// The settings for this call.
    pub(crate) settings: Settings,
}

/// The answer to a call.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) request_id: String,
    pub(crate) date: String,
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: String,
}

impl Service {
    /// Logs a call, and takes its fault and its settings.
    pub(crate) fn arrive(&mut self, inputs: Inputs, signer: Option<Signer>) -> Request {
        let number = self.log.arrived(inputs.clone(), signer.clone());
        let fault = self.faults.take();
        let settings = match &fault {
            Some(Fault::Under(settings)) => settings.clone(),
            _ => self.settings.clone(),
        };
        let signer = signer.map(|signer| signer.access_key_id);
        Request { number, inputs, signer, fault, settings }
    }

    /// Answers a call and logs the answer.
    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        let request_id = format!("00000000-0000-4000-8000-{:012x}", request.number);
        let now = unix_seconds().saturating_add(request.settings.date_skew_secs);
        let mut issued = None;
        let outcome = self.perform(request, now, &mut issued);
        let (status, body) = match outcome {
            Ok(result) => {
                let action = input(request, "Action").unwrap_or_default();
                let mut body = result_xml(action, &result, &request_id);
                match request.fault {
                    Some(Fault::MalformedBody) => body.truncate("<A".len()),
                    Some(Fault::TruncatedBody) => body.truncate(body.len() / 2),
                    _ => {}
                }
                (200, body)
            }
            Err(error) => (error.status, error.xml(&request_id)),
        };
        self.log.answered(request.number, status, issued);
        let retry_after = match request.fault {
            Some(Fault::ThrottlingFor(seconds)) => Some(seconds),
            _ => None,
        };
        Answer { status, request_id, date: format_date(now, Format::HttpDate), retry_after, body }
    }

    fn perform(
        &mut self,
        request: &Request,
        now: i64,
        issued: &mut Option<String>,
    ) -> Result<String, StsError> {
        let by_token = input(request, "Action") == Some("AssumeRoleWithWebIdentity");
        let caller = if by_token { Identity::local_user() } else { self.caller(request)? };
        if let Some(error) = injected_error(request, &caller) {
            return Err(error);
        }
        match input(request, "Action") {
            Some("AssumeRole") => self.assume_role(request, now, issued),
            Some("AssumeRoleWithWebIdentity") => {
                let token = input(request, "WebIdentityToken").unwrap_or_default();
                if token.is_empty() {
                    let message = "No OpenIDConnect provider found in your account";
                    return Err(StsError::new(400, "InvalidIdentityToken", message));
                }
                self.assume_role(request, now, issued)
            }
            Some("GetCallerIdentity") => Ok(caller.xml()),
            None => Err(StsError::new(400, "MissingAction", "Missing Action")),
            Some(other) => {
                let version = input(request, "Version").unwrap_or("2011-06-15");
                let message = format!("Could not find operation {other} for version {version}");
                Err(StsError::new(400, "InvalidAction", message))
            }
        }
    }

    fn caller(&self, request: &Request) -> Result<Identity, StsError> {
        let signer = request.signer.as_ref().ok_or_else(|| {
            let message = "Request is missing Authentication Token";
            StsError::new(403, "MissingAuthenticationToken", message)
        })?;
        Ok(self.issued.get(signer).cloned().unwrap_or_else(Identity::local_user))
    }

    fn assume_role(
        &mut self,
        request: &Request,
        now: i64,
        issued: &mut Option<String>,
    ) -> Result<String, StsError> {
        let assume = AssumeRole::from_inputs(&request.inputs)?;
        let set = IssuedSet::new(request.settings.token_bytes, &request.inputs)
            .map_err(|error| StsError::new(500, "InternalFailure", error.to_string()))?;
        let lifetime = request.settings.lifetime_secs.unwrap_or(assume.duration_secs);
        let identity = Identity::session(&assume);
        let mut credentials = element("AccessKeyId", &set.access_key_id);
        if request.fault != Some(Fault::IncompleteSet) {
            credentials += &element("SecretAccessKey", &set.secret_access_key);
        }
        credentials += &element("SessionToken", &set.session_token);
        credentials +=
            &element("Expiration", &format_date(now.saturating_add(lifetime), Format::DateTime));
        let user = element("Arn", &identity.arn) + &element("AssumedRoleId", &identity.user_id);
        let source = assume.source_identity.map(|source| element("SourceIdentity", &source));
        self.issued.insert(set.access_key_id.clone(), identity);
        *issued = Some(set.access_key_id);
        Ok(nest("Credentials", &credentials)
            + &nest("AssumedRoleUser", &user)
            + &source.unwrap_or_default())
    }
}

impl Identity {
    fn session(assume: &AssumeRole) -> Self {
        let (role, session) = (&assume.role, &assume.session);
        let scope = format!("{}:sts::{}", role.partition, role.account);
        Self {
            arn: format!("arn:{scope}:assumed-role/{}/{session}", role.name),
            user_id: format!("{}:{session}", unique_id("AROA", &format!("{scope}/{}", role.name))),
            account: role.account.clone(),
        }
    }

    fn local_user() -> Self {
        let arn = format!("arn:aws:iam::{}:user/local", ACCOUNT);
        Self { user_id: unique_id("AIDA", &arn), arn, account: ACCOUNT.to_owned() }
    }

    fn xml(&self) -> String {
        element("Arn", &self.arn)
            + &element("UserId", &self.user_id)
            + &element("Account", &self.account)
    }
}

/// The error of the call's fault, if the fault is an error.
fn injected_error(request: &Request, caller: &Identity) -> Option<StsError> {
    Some(match request.fault.as_ref()? {
        Fault::Status(503) => StsError::new(503, "ServiceUnavailable", "Service unavailable"),
        Fault::Status(status) => StsError::new(
            *status,
            "InternalFailure",
            "The request processing has failed because of an unknown error, exception or failure.",
        ),
        Fault::Throttling | Fault::ThrottlingFor(_) => {
            StsError::new(400, "Throttling", "Rate exceeded")
        }
        Fault::AccessDenied => StsError::new(403, "AccessDenied", denial(request, caller)),
        Fault::Error { status, code, message } => StsError::new(*status, code, message),
        _ => return None,
    })
}

fn denial(request: &Request, caller: &Identity) -> String {
    let action = input(request, "Action").unwrap_or_default();
    let denied = format!("User: {} is not authorized to perform: sts:{action}", caller.arn);
    match input(request, "RoleArn") {
        Some(role) => format!("{denied} on resource: {role}"),
        None => denied,
    }
}

fn input<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.inputs.get(name).map(String::as_str)
}

fn unix_seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

fn format_date(unix_seconds: i64, format: Format) -> String {
    // Whole seconds, as in STS. A year after 9999 cannot be formatted, so the text is empty.
    DateTime::from_secs(unix_seconds).fmt(format).unwrap_or_default()
}
