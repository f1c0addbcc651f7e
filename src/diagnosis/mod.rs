//! Looks at everything that decides whether a session will work here, and changes nothing.

mod credentials;
mod environment;
mod kernel;
mod leftovers;
mod limits;
mod memory;
mod places;
mod surroundings;

use serde::Serialize;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could, or somebody should know.
    Note,
    /// Something will fail.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How good it is.
    pub level: Level,
    /// What was looked at, in a few words.
    pub subject: String,
    /// What was found. It holds no secret.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// What to do; empty when nothing is to be done.
    pub advice: String,
}

/// What to look at besides this machine.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Inquiry {
    /// The profile of the AWS config files; that of the environment without one.
    pub profile: Option<String>,
    /// The role to assume.
    pub role_arn: Option<String>,
    /// Whether to ask AWS: once for credentials, and once whose they are.
    pub online: bool,
}

/// Looks at everything that decides whether a session will work here: the kernel, directories, memory, namespaces,
/// leftovers, the clock, the environment, and the chain of the profile. It changes nothing. Without
/// [`online`](Inquiry::online) it asks nobody.
///
/// ```
/// let findings = shmcreds::diagnose(&shmcreds::Inquiry::default());
/// assert!(findings.iter().any(|finding| finding.subject == "kernel"));
/// ```
pub fn diagnose(inquiry: &Inquiry) -> Vec<Finding> {
    let mut findings = Vec::new();
    kernel::look(&mut findings);
    places::look(&mut findings);
    limits::look(&mut findings);
    memory::look(&mut findings);
    surroundings::look(&mut findings);
    leftovers::look(&mut findings);
    environment::look(&mut findings);
    credentials::look(inquiry, &mut findings);
    findings
}

fn ok(subject: &str, found: impl Into<String>, why: &str) -> Finding {
    finding(Level::Ok, subject, found, why, "")
}

fn note(subject: &str, found: impl Into<String>, why: &str, advice: &str) -> Finding {
    finding(Level::Note, subject, found, why, advice)
}

fn fault(subject: &str, found: impl Into<String>, why: &str, advice: &str) -> Finding {
    finding(Level::Fault, subject, found, why, advice)
}

fn finding(
    level: Level,
    subject: &str,
    found: impl Into<String>,
    why: &str,
    advice: &str,
) -> Finding {
    let (found, subject) = (found.into(), subject.to_owned());
    Finding { level, subject, found, why: why.to_owned(), advice: advice.to_owned() }
}

/// The contents of a small file, without the newline at its end. `None` when it cannot be read.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}
