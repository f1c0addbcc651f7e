//! The log, and all other output for people. None of it shows a secret.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::{PoisonError, RwLock},
};

use serde_json::json;
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    arguments,
    redact::{hide, redact},
    sources, standard_error,
    status::colour_is_wanted,
};

/// Shorter secrets would match parts of ordinary words.
const SHORTEST_SECRET: usize = 4;
/// Variables that hold secrets.
const VARIABLES: [&str; 13] = [
    "AMAZON_SECRET_ACCESS_KEY",
    "AMAZON_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
];

/// The secrets that this process knows, the longest first.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Starts the log. By default it shows the warnings of this program; with `-v` also messages of its libraries.
pub(crate) fn start(verbose: u8, json: bool) {
    let targets = match verbose {
        0 => Targets::new().with_target("shmcreds", LevelFilter::WARN),
        1 => Targets::new().with_default(LevelFilter::INFO),
        _ => Targets::new().with_default(LevelFilter::DEBUG),
    };
    let colour = io::stderr().is_terminal() && colour_is_wanted();
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(move || Clean { json });
    let registry = tracing_subscriber::registry().with(targets);
    match json {
        true => registry.with(layer.json()).init(),
        false => registry.with(layer).init(),
    }
    std::panic::set_hook(Box::new(|panic| say(&panic.to_string())));
}

/// Collects the secrets in the options, the environment and the AWS files.
pub(crate) fn learn_secrets(options: &arguments::Session) {
    #[cfg(feature = "fleet")]
    let fleet = options.fleet.secrets();
    #[cfg(not(feature = "fleet"))]
    let fleet = [];
    let options = &options.source;
    let mut secrets = sources::chosen_profile(options).secrets();
    secrets.extend(fleet);
    secrets.extend(VARIABLES.iter().filter_map(|name| secret_of(name, env::var(name).ok()?)));
    let texts = [&options.external_id, &options.policy];
    secrets.extend(texts.into_iter().flatten().cloned());
    secrets.extend(options.provided_context.iter().map(|(_, assertion)| assertion.clone()));
    learn(secrets);
}

/// Notes secrets, so that no output shows them from now on.
pub(crate) fn learn(mut secrets: Vec<String>) {
    secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
    // The escaped form, as in `Debug` texts and JSON.
    let escaped = secrets.iter().map(|secret| format!("{secret:?}").trim_matches('"').to_owned());
    secrets.extend(escaped.collect::<Vec<_>>());
    let mut known = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    known.append(&mut secrets);
    known.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    known.dedup();
}

/// The secret in a variable. In the address of a proxy, it is the password.
fn secret_of(variable: &str, value: String) -> Option<String> {
    if !variable.to_lowercase().ends_with("_proxy") {
        return Some(value);
    }
    password_of(&value).map(str::to_owned)
}

/// The password in the address of a proxy.
pub(crate) fn password_of(proxy: &str) -> Option<&str> {
    let (user, _) = proxy.rsplit_once('@')?;
    Some(user.rsplit_once(':')?.1)
}

/// Removes all known secrets, and everything that looks like a secret.
pub(crate) fn clean(text: &str) -> String {
    let known = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    redact(&known.iter().fold(text.to_owned(), |text, secret| hide(&text, secret)))
}

/// Says something to the user, without secrets. It is no error if nobody can hear it.
pub(crate) fn say(text: &str) {
    standard_error::say(&format!("shmcreds: {}", clean(text)));
}

/// The standard error, without secrets. Each write is a whole event.
struct Clean {
    json: bool,
}

impl Write for Clean {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let notice = |lines| missing(self.json, lines);
        standard_error::log(&clean(&String::from_utf8_lossy(event)), notice);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event that takes the place of those that were dropped.
fn missing(json: bool, lines: u64) -> String {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let text = "lines of the log were not written, because nobody read the standard error";
    match json {
        true => {
            let fields = json!({"message": text, "lines": lines});
            let level = Level::WARN.as_str();
            let event =
                json!({"timestamp": time, "level": level, "fields": fields, "target": "shmcreds"});
            format!("{event}\n")
        }
        false => format!("{time}  WARN shmcreds: {lines} {text}\n"),
    }
}
