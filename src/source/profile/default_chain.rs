//! The SDK's default chain: the same places in the same order. If there are no credentials, the error says where it
//! searched.

use super::{
    Fetched, Profile, Provider, Source, SourceError, environment::Environment, files::Files, keys,
    misconfigured, setting_names::credential_keys, web_identity,
};

pub(in crate::source) async fn fetch() -> Result<Fetched, SourceError> {
    let environment = Environment::real();
    if let Some(keys) = keys::by_environment(&environment).map_err(misconfigured)? {
        return Ok(Fetched::new(keys));
    }
    let files = Files::read(&environment);
    let chosen = environment.profile();
    let name = chosen.clone().unwrap_or_else(|| "default".into());
    match files.profile(&name) {
        Some(profile) if profile.settings().any(|(key, _)| credential_keys().contains(key)) => {
            return Profile::new(name).fetch().await;
        }
        None if chosen.is_some() => {
            let absence = files.absence(&name);
            return Err(misconfigured(format!(
                "{absence} (AWS_PROFILE or AWS_DEFAULT_PROFILE names it)"
            )));
        }
        _ => {}
    }
    if let Some(recipe) = web_identity::by_environment(&environment).map_err(misconfigured)? {
        return web_identity::fetch(&recipe, &environment, &files, &[name]).await;
    }
    let has_container = ["RELATIVE_URI", "FULL_URI"]
        .iter()
        .any(|end| environment.get(&format!("AWS_CONTAINER_CREDENTIALS_{end}")).is_some());
    if has_container {
        return Provider::container().fetch().await;
    }
    if environment.flag("AWS_EC2_METADATA_DISABLED") == Some(true) {
        return Err(nothing(&files, &name, "AWS_EC2_METADATA_DISABLED is set"));
    }
    Provider::imds().fetch().await.map_err(|failure| {
        // The metadata service is the last place. On a host without it, the other places are the better explanation.
        failure.explained(&nothing_before(&files, &name))
    })
}

fn nothing(files: &Files, name: &str, instance: &str) -> SourceError {
    misconfigured(format!("{}; {instance}", nothing_before(files, name)))
}

fn nothing_before(files: &Files, name: &str) -> String {
    let profile = match files.profile(name) {
        Some(_) => match files.all_problems() {
            Some(problems) => format!("profile {name:?} has none ({problems})"),
            None => format!("profile {name:?} has none"),
        },
        None => files.absence(name),
    };
    format!(
        "no credentials found: no AWS_ACCESS_KEY_ID, no AWS_WEB_IDENTITY_TOKEN_FILE and no \
         AWS_CONTAINER_CREDENTIALS_FULL_URI is set; {profile}"
    )
}
