//! A config file without any credentials, for programs that get them in another way.

use std::fmt::Write;

use super::{
    chain::{self, credential_keys},
    files::{Files, Profile},
};

/// Keys that begin so are of credentials, whichever they will be.
const PREFIXES: [&str; 3] = ["sso_", "mfa_", "aws_"];

pub(super) fn config(files: &Files, name: &str) -> String {
    let mut body = String::new();
    let chosen = files.profile(name);
    if let Some(profile) = chosen {
        write_settings(&mut body, profile);
    }
    // What the profile does not say of the Region, others do.
    if chosen.is_none_or(|profile| profile.get("region").is_none())
        && let Some(region) = inherited_region(files, name)
    {
        let _ = writeln!(body, "region = {region}");
    }
    let mut text = format!("[default]\n{body}");
    if name != "default" && is_plain(name) {
        let _ = write!(text, "\n[profile \"{name}\"]\n{body}");
    }
    let services = chosen.and_then(|profile| profile.get("services"));
    if let Some((name, services)) = services.and_then(|name| Some((name, files.services(name)?))) {
        let _ = writeln!(text, "\n[services {name}]");
        write_settings(&mut text, services);
    }
    text
}

fn inherited_region<'a>(files: &'a Files, name: &str) -> Option<&'a str> {
    let names = chain::resolve(files, name).map_or_else(|_| Vec::new(), |chain| chain.names);
    let mut all = names.iter().map(String::as_str).chain(["default"]);
    all.find_map(|name| files.profile(name)?.get("region"))
}

fn write_settings(text: &mut String, profile: &Profile) {
    let secret = credential_keys();
    for (key, setting) in profile.settings() {
        let property = &setting.property;
        if secret.contains(key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
            continue;
        }
        if property.nested.is_empty() {
            if !property.value.contains('\n') {
                let _ = writeln!(text, "{key} = {}", property.value);
            }
            continue;
        }
        let _ = writeln!(text, "{key} =");
        for (key, value) in &property.nested {
            let _ = writeln!(text, "  {key} = {value}");
        }
    }
}

/// Whether every parser reads the name in quotes.
fn is_plain(name: &str) -> bool {
    !name.contains(['"', '\'', '\\', ']', '\n'])
}

#[cfg(test)]
mod tests {
    use super::{super::files::tests::files, *};

    const CONFIG: &str = "[profile app]\nrole_arn = arn:hush\nsource_profile = base\nexternal_id = hush\n\
                          sso_unheard_of = hush\nretry_mode = adaptive\nservices = local\ns3 =\n  addressing_style = path\n\
                          [profile base]\nregion = eu-central-1\ncredential_process = hush\n\
                          [services local]\ns3 =\n  endpoint_url = http://s3\n";

    #[test]
    fn everything_but_credentials_is_kept() {
        let files = files(
            CONFIG,
            "[app]\naws_access_key_id = hush\naws_secret_access_key = hush\n\
                                   x_security_token_expires = hush\n",
        );
        let text = config(&files, "app");
        assert!(!text.contains("hush"), "{text}");
        let body = "retry_mode = adaptive\ns3 =\n  addressing_style = path\nservices = local\nregion = eu-central-1\n";
        let services = "[services local]\ns3 =\n  endpoint_url = http://s3\n";
        assert_eq!(text, format!("[default]\n{body}\n[profile \"app\"]\n{body}\n{services}"));
    }

    #[test]
    fn a_profile_that_is_absent_leaves_the_region_of_the_default() {
        let files = files("[default]\nregion = eu-west-1\noutput = json\n", "");
        assert_eq!(config(&files, "default"), "[default]\noutput = json\nregion = eu-west-1\n");
        assert_eq!(
            config(&files, "other"),
            "[default]\nregion = eu-west-1\n\n[profile \"other\"]\nregion = eu-west-1\n"
        );
    }
}
