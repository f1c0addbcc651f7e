//! The chain of the profile, and whose credentials come in the end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_smithy_types::{DateTime, date_time::Format};

use super::{Finding, Inquiry, fault, note, ok};
use crate::{
    source::{
        AssumeRole, Fetched, Profile, Provider, Source, SourceError, instance_metadata_told,
        without_credentials_file,
    },
    sys::runtime,
};

/// The most that a clock may be off. AWS accepts a little more.
const SKEW: Duration = Duration::from_secs(240);

pub(super) fn look(inquiry: &Inquiry, findings: &mut Vec<Finding>) {
    profile(inquiry, findings);
    findings.push(instance_metadata(inquiry));
    let source = match source(inquiry) {
        Ok(source) => source,
        Err(problem) => {
            let why = "`exec` refuses it as well";
            return findings.push(fault("source", problem, why, "correct the option"));
        }
    };
    match inquiry.online {
        true => online(&*source, findings),
        false => findings.push(ok(
            "identity",
            format!("not asked: {}", source.describe()),
            "--online asks once, and prints account, ARN and expiry",
        )),
    }
}

fn profile(inquiry: &Inquiry, findings: &mut Vec<Finding>) {
    let subject = "profile";
    let chosen = inquiry.profile.as_deref().map_or_else(Profile::selected, Profile::new);
    let steps = chosen.steps();
    if let Some(problem) = &steps.problems {
        let why = "a line that cannot be read counts as absent";
        findings.push(note(subject, problem.clone(), why, "correct the line"));
    }
    let why = "the way to the credentials";
    match steps.outcome {
        Ok(steps) => findings.extend(steps.into_iter().map(|step| ok(subject, step, why))),
        // Without a name, a profile is one of several ways.
        Err(problem) if inquiry.profile.is_none() && !without_credentials_file(&chosen) => {
            findings.push(note(subject, problem, why, "only of interest if you use profiles"));
        }
        Err(problem) if inquiry.profile.is_none() => {
            findings.push(ok(subject, problem, "the default chain goes on without a profile"));
        }
        Err(problem) => findings.push(fault(subject, problem, why, "correct the profile")),
    }
    for setting in steps.ignored {
        let why = "shmcreds does not use it, and does not hand it to CMD";
        findings.push(note(subject, setting, why, "remove it, or see docs/PROFILES.md"));
    }
}

fn instance_metadata(inquiry: &Inquiry) -> Finding {
    let subject = "instance metadata";
    let why = "the default chain ends there, and the Region is asked there if nothing sets one";
    let chosen = inquiry.profile.as_deref().map_or_else(Profile::selected, Profile::new);
    match instance_metadata_told(chosen.name()) {
        Ok(told) => ok(subject, told, why),
        Err(problem) => fault(subject, problem, why, "correct the value, or unset it"),
    }
}

fn source(inquiry: &Inquiry) -> Result<Arc<dyn Source>, String> {
    let profile = inquiry.profile.as_deref();
    let source: Arc<dyn Source> = match (&inquiry.role_arn, profile) {
        (Some(role), Some(profile)) => {
            let role = AssumeRole::new(role).profile(profile);
            Arc::new(role.base_source(Profile::new(profile)))
        }
        (Some(role), None) => Arc::new(AssumeRole::new(role)),
        (None, Some(profile)) => Arc::new(Profile::new(profile)),
        (None, None) => Arc::new(Provider::default_chain()),
    };
    source.validate()?;
    Ok(source)
}

/// Asks once for credentials, and once whose they are.
fn online(source: &dyn Source, findings: &mut Vec<Finding>) {
    let subject = "identity";
    let why = "these are the credentials that `exec` would hand out";
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let text = format!("starting an async runtime: {}", crate::errno::told(&error));
            return findings.push(fault(subject, text, why, ""));
        }
    };
    let limit = source.timeout();
    let asked = runtime.block_on(async {
        let fetched =
            tokio::time::timeout(limit, source.fetch()).await.map_err(|_| slow(limit))??;
        let theirs = Some(fetched.credentials.clone());
        let identity =
            tokio::time::timeout(limit, source.identify(theirs)).await.map_err(|_| slow(limit))?;
        Ok::<_, SourceError>((fetched, identity))
    });
    let (fetched, identity) = match asked {
        Ok(asked) => asked,
        Err(failure) => {
            let text = format!("no credentials ({}): {failure}", failure.class());
            let advice = "see the lines on the profile, the variables and the proxies";
            return findings.push(fault(subject, text, why, advice));
        }
    };
    let until = expiry(&fetched);
    findings.push(match identity {
        Ok(identity) => {
            let text = format!("account {}, {}, {until}", identity.account, identity.arn);
            ok(subject, text, why)
        }
        Err(failure) => {
            let text = format!("credentials came ({until}), and STS did not say whose: {failure}");
            note(subject, text, why, "allow requests to STS from here")
        }
    });
    findings.push(skew(&fetched));
}

fn slow(limit: Duration) -> SourceError {
    let text = format!("no answer within {limit:?}");
    SourceError::new(crate::source::SourceErrorClass::Transient, text)
}

fn expiry(fetched: &Fetched) -> String {
    let until = fetched.credentials.expiry().map(DateTime::from);
    let until = until.and_then(|until| until.fmt(Format::DateTime).ok());
    until.map_or_else(|| "without an expiry".to_owned(), |until| format!("valid until {until}"))
}

fn skew(fetched: &Fetched) -> Finding {
    let (subject, why) = ("clock", "AWS refuses requests that are signed more than 5 minutes off");
    let Some(theirs) = fetched.server_time else {
        return ok(subject, "the source tells no time", why);
    };
    let ours = SystemTime::now();
    let off = ours.duration_since(theirs).unwrap_or_else(|early| early.duration());
    let text = format!("{} s off the clock of the source", off.as_secs());
    match off < SKEW {
        true => ok(subject, text, why),
        false => fault(subject, text, why, "set the clock (NTP)"),
    }
}
