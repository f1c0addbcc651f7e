//! `doctor`: one line for each thing that was looked at.

use std::process::ExitCode;

use shmcreds::{Finding, Inquiry, Level, diagnose};

use crate::{
    arguments::Doctor,
    command_error::{CommandError, SYSTEM},
    log,
};

pub(crate) fn run(options: Doctor) -> Result<ExitCode, CommandError> {
    let mut inquiry = Inquiry::default();
    inquiry.profile = options.profile;
    inquiry.role_arn = options.role_arn;
    inquiry.online = options.online;
    let findings = diagnose(&inquiry);
    let text = match options.json {
        true => serde_json::to_string(&findings)
            .map(|text| text + "\n")
            .map_err(|error| CommandError::new(SYSTEM, format!("writing JSON: {error}")))?,
        false => findings.iter().map(line).collect(),
    };
    crate::write(&log::clean(&text))?;
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(ExitCode::from(match worst {
        None | Some(Level::Ok) => 0,
        Some(Level::Note) => 1,
        Some(_) => 2,
    }))
}

fn line(finding: &Finding) -> String {
    let Finding { level, subject, found, why, advice, .. } = finding;
    let level = match level {
        Level::Ok => "ok",
        Level::Note => "note",
        _ => "fault",
    };
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    format!("{level:5} {subject}: {found} ({why}){advice}\n")
}
