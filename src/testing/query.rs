//! The AWS Query protocol: a request is a form, and an answer is XML.

use std::collections::BTreeMap;

/// Inputs of a request, by name.
pub(crate) type Inputs = BTreeMap<String, String>;

/// An error answer of STS.
#[derive(Debug)]
pub(crate) struct StsError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl StsError {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        // Any other number is not a final HTTP status and cannot be sent.
        let status = if (200..=599).contains(&status) { status } else { 500 };
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// The XML document of the error.
    pub(crate) fn xml(&self, request_id: &str) -> String {
        let fault = if self.status < 500 { "Sender" } else { "Receiver" };
        let error = element("Type", fault)
            + &element("Code", &self.code)
            + &element("Message", &self.message);
        document("ErrorResponse", &(nest("Error", &error) + &element("RequestId", request_id)))
    }
}

/// The XML document of the result of `action`.
pub(crate) fn result_xml(action: &str, result: &str, request_id: &str) -> String {
    let metadata = nest("ResponseMetadata", &element("RequestId", request_id));
    document(&format!("{action}Response"), &(nest(&format!("{action}Result"), result) + &metadata))
}

fn document(root: &str, content: &str) -> String {
    format!("<{root} xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n{content}</{root}>\n")
}

/// An element that contains text.
pub(crate) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>\n", escape(text))
}

/// An element that contains elements.
pub(crate) fn nest(name: &str, content: &str) -> String {
    format!("<{name}>\n{content}</{name}>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Parses the form in the body of a request.
pub(crate) fn parse(body: &[u8]) -> Inputs {
    form_urlencoded::parse(body).into_owned().collect()
}

/// The access key and the Region of a signature.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) access_key_id: String,
    pub(crate) region: Option<String>,
}

/// The signer in `AWS4-HMAC-SHA256 Credential=ID/date/region/sts/aws4_request, …`.
pub(crate) fn signer(authorization: &str) -> Option<Signer> {
    let (_, credential) = authorization.split_once("Credential=")?;
    let (access_key_id, scope) = credential.split_once('/')?;
    let region = scope.split('/').nth(1).map(str::to_owned);
    Some(Signer { access_key_id: access_key_id.to_owned(), region })
}

/// The inputs of a valid `AssumeRole`.
#[derive(Debug)]
pub(crate) struct AssumeRole {
    pub(crate) role: RoleArn,
    pub(crate) session: String,
    pub(crate) duration_secs: i64,
    pub(crate) source_identity: Option<String>,
}

impl AssumeRole {
    /// Checks the inputs as STS does, with the same messages.
    pub(crate) fn from_inputs(inputs: &Inputs) -> Result<Self, StsError> {
        let input = |name: &str| inputs.get(name).map(String::as_str);
        let duration = input("DurationSeconds").unwrap_or("3600");
        let duration_secs: i64 = duration.parse().map_err(|_| {
            StsError::new(400, "MalformedInput", "Could not parse DurationSeconds as a number")
        })?;
        let mut objections = Vec::new();
        check_text(&mut objections, "roleArn", input("RoleArn"), 20..=2048, |_| true, "");
        for (member, value) in [
            ("roleSessionName", input("RoleSessionName")),
            // This input is optional.
            ("sourceIdentity", input("SourceIdentity").or(Some("none"))),
        ] {
            let pattern = r"[\w+=,.@-]*";
            check_text(&mut objections, member, value, 2..=64, is_session_char, pattern);
        }
        check_duration(&mut objections, duration_secs);
        if !objections.is_empty() {
            return Err(validation_error(&objections));
        }
        let arn = input("RoleArn").unwrap_or_default();
        let role = RoleArn::parse(arn)
            .ok_or_else(|| StsError::new(400, "ValidationError", format!("{arn} is invalid")))?;
        Ok(Self {
            role,
            session: input("RoleSessionName").unwrap_or_default().to_owned(),
            duration_secs,
            source_identity: input("SourceIdentity").map(str::to_owned),
        })
    }
}

fn is_session_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

fn check_text(
    objections: &mut Vec<String>,
    member: &str,
    value: Option<&str>,
    len: std::ops::RangeInclusive<usize>,
    allowed: impl Fn(char) -> bool,
    pattern: &str,
) {
    let Some(value) = value else {
        let what = format!("Value null at '{member}' failed to satisfy constraint: ");
        objections.push(what + "Member must not be null");
        return;
    };
    let mut object = |constraint: String| {
        let what = format!("Value '{value}' at '{member}' failed to satisfy constraint: ");
        objections.push(what + &constraint);
    };
    if !value.chars().all(allowed) {
        object(format!("Member must satisfy regular expression pattern: {pattern}"));
    }
    if value.len() < *len.start() {
        object(format!("Member must have length greater than or equal to {}", len.start()));
    }
    if value.len() > *len.end() {
        object(format!("Member must have length less than or equal to {}", len.end()));
    }
}

fn check_duration(objections: &mut Vec<String>, seconds: i64) {
    let bound = match seconds {
        ..900 => "greater than or equal to 900",
        43201.. => "less than or equal to 43200",
        _ => return,
    };
    objections.push(format!(
        "Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: \
         Member must have value {bound}"
    ));
}

fn validation_error(objections: &[String]) -> StsError {
    let errors = if objections.len() == 1 { "error" } else { "errors" };
    let message =
        format!("{} validation {errors} detected: {}", objections.len(), objections.join("; "));
    StsError::new(400, "ValidationError", message)
}

/// The parts of `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Debug)]
pub(crate) struct RoleArn {
    pub(crate) partition: String,
    pub(crate) account: String,
    pub(crate) name: String,
}

impl RoleArn {
    fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next();
        let ("arn", partition, "iam", "", account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?)
        else {
            return None;
        };
        // A role may have a path. The ARN of its sessions does not contain it.
        let name = resource.strip_prefix("role/")?.rsplit('/').next()?;
        let valid = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        (valid && !name.is_empty()).then(|| Self {
            partition: partition.to_owned(),
            account: account.to_owned(),
            name: name.to_owned(),
        })
    }
}
