//! The log, and every other line for people: none of them shows a secret.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    arguments,
    redact::{hide, redact},
    sources,
    status::colour_is_wanted,
};

/// Shorter ones would be found in every other word.
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

/// What this process knows to be secret, the longest first.
static SECRETS: OnceLock<Vec<String>> = OnceLock::new();

/// Starts the log: by default the warnings of this program, and on demand what its libraries say, too.
pub(crate) fn start(verbose: u8, json: bool) {
    let targets = match verbose {
        0 => Targets::new().with_target("shmcreds", LevelFilter::WARN),
        1 => Targets::new().with_default(LevelFilter::INFO),
        _ => Targets::new().with_default(LevelFilter::DEBUG),
    };
    let colour = io::stderr().is_terminal() && colour_is_wanted();
    let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(|| Clean);
    let registry = tracing_subscriber::registry().with(targets);
    match json {
        true => registry.with(layer.json()).init(),
        false => registry.with(layer).init(),
    }
    std::panic::set_hook(Box::new(|panic| eprintln!("shmcreds: {}", clean(&panic.to_string()))));
}

/// Notes what is secret of the options, the environment and the AWS files.
pub(crate) fn learn(options: &arguments::Source) {
    let mut secrets = sources::chosen_profile(options).secrets();
    secrets.extend(VARIABLES.iter().filter_map(|name| secret_of(name, env::var(name).ok()?)));
    let texts = [&options.external_id, &options.policy];
    secrets.extend(texts.into_iter().flatten().cloned());
    secrets.extend(options.provided_context.iter().map(|(_, assertion)| assertion.clone()));
    secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
    // As a `Debug`, and JSON, show it.
    let escaped = secrets.iter().map(|secret| format!("{secret:?}").trim_matches('"').to_owned());
    secrets.extend(escaped.collect::<Vec<_>>());
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    // It is called once.
    let _ = SECRETS.set(secrets);
}

/// Of a proxy's address the password.
fn secret_of(variable: &str, value: String) -> Option<String> {
    if !variable.to_lowercase().ends_with("_proxy") {
        return Some(value);
    }
    let (user, _) = value.rsplit_once('@')?;
    Some(user.rsplit_once(':')?.1.to_owned())
}

/// The text without what is known to be secret, or looks like it.
pub(crate) fn clean(text: &str) -> String {
    let known = SECRETS.get().map(Vec::as_slice).unwrap_or_default();
    redact(&known.iter().fold(text.to_owned(), |text, secret| hide(&text, secret)))
}

/// Standard error, a whole event at a time.
struct Clean;

impl Write for Clean {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(clean(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
