//! The settings that are not credentials, for programs that get the credentials in another way. Also the secrets in
//! the files, which a log must not show.

use std::fmt::Write;

use super::{
    files::{Files, Profile},
    setting_names::{KEPT, is_secret},
};

/// A config file with the settings of all profiles. Those of `chosen` are the default.
pub(super) fn config(files: &Files, chosen: &str) -> String {
    let mut text = "[default]\n".to_owned();
    if let Some(profile) = files.profile(chosen) {
        write_settings(&mut text, profile, |key| KEPT.contains(&key));
    }
    let profiles = files.profiles().filter(|(name, _)| *name != "default" && is_plain(name));
    for (name, profile) in profiles {
        let _ = writeln!(text, "[profile {}]", quoted(name));
        write_settings(&mut text, profile, |key| KEPT.contains(&key));
    }
    for (name, services) in files.all_services().filter(|(name, _)| is_plain(name)) {
        let _ = writeln!(text, "[services {}]", quoted(name));
        write_settings(&mut text, services, |key| !is_secret(key));
    }
    text
}

fn write_settings(text: &mut String, profile: &Profile, is_kept: impl Fn(&str) -> bool) {
    for (key, setting) in profile.settings().filter(|(key, _)| is_kept(key)) {
        let property = &setting.property;
        if property.nested.is_empty() {
            if !property.value.contains('\n') {
                let _ = writeln!(text, "{key} = {}", property.value);
            }
            continue;
        }
        let _ = writeln!(text, "{key} =");
        for (key, value) in property.nested.iter().filter(|(key, _)| !is_secret(key)) {
            let _ = writeln!(text, "    {key} = {value}");
        }
    }
}

/// All values that a log must not show.
pub(super) fn secrets(files: &Files) -> Vec<String> {
    let settings = || files.profiles().flat_map(|(_, profile)| profile.settings());
    let values = settings().filter(|(key, _)| is_secret(key)).map(|(_, setting)| setting.value());
    let arguments = settings()
        .filter(|(key, _)| *key == "credential_process")
        .flat_map(|(_, setting)| secret_arguments(setting.value()));
    values.chain(arguments).map(str::to_owned).collect()
}

/// The arguments of a credential process that may be secret: all except options, paths and plain words. If it is
/// `shmcreds` itself, its arguments are no secrets, but names of sessions.
fn secret_arguments(command: &str) -> Vec<&str> {
    let mut words = command.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
    if words.next().is_some_and(|program| program.ends_with("/shmcreds") || program == "shmcreds") {
        return Vec::new();
    }
    let values = words.filter_map(|word| match word.strip_prefix('-') {
        Some(option) => option.split_once('=').map(|(_, value)| value),
        None => Some(word),
    });
    let is_plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    values.filter(|value| !value.contains('/') && !is_plain(value)).collect()
}

fn quoted(name: &str) -> String {
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@+:/".contains(c));
    if is_word { name.to_owned() } else { format!("\"{name}\"") }
}

/// Whether every parser can read the name in quotes.
fn is_plain(name: &str) -> bool {
    !name.contains(['"', '\'', '\\', ']', '\n'])
}

#[cfg(test)]
mod tests {
    use super::{super::files::tests::files, *};

    const CONFIG: &str = "\
[default]
region = us-east-1
[profile \"my app\"]
  region = eu-west-1
  s3 =
    addressing_style = path
    aws_secret_access_key = hush-nested
  role_arn = arn:aws:iam::123456789012:role/app
  source_profile = base
  external_id = hush-id
  a line of no sense
  retry_mode = adaptive
  okta_password = hush-word
[sso-session x]
sso_start_url = https://hush
[services local]
s3 =
  endpoint_url = http://127.0.0.1:9000
[profile base]
region = eu-central-1
[profile child]
source_profile = base
credential_process = /opt/helper credentials --password hush-argument --client-secret=hush-other
[profile own]
credential_process = /usr/bin/shmcreds credentials web-1
";
    const CREDENTIALS: &str = "\
[base]
aws_access_key_id = AKIAEXAMPLE
aws_secret_access_key = hush-key
aws_session_token = hush-token
output = json
[default]
region = us-west-2
";

    #[test]
    fn settings_are_kept_and_credentials_are_not() {
        let files = files(CONFIG, CREDENTIALS);
        let app = "region = eu-west-1\nretry_mode = adaptive\ns3 =\n    addressing_style = path\n";
        let all = format!(
            "[profile base]\noutput = json\nregion = eu-central-1\n[profile child]\n\
             [profile \"my app\"]\n{app}[profile own]\n[services local]\ns3 =\n    endpoint_url = http://127.0.0.1:9000\n"
        );
        assert_eq!(config(&files, "my app"), format!("[default]\n{app}{all}"));
        assert_eq!(config(&files, "default"), format!("[default]\nregion = us-west-2\n{all}"));
        assert_eq!(config(&files, "absent"), format!("[default]\n{all}"));
        assert_eq!(config(&Files::default(), "default"), "[default]\n");
    }

    #[test]
    fn all_secrets_are_known_and_nothing_else() {
        let found = secrets(&files(CONFIG, CREDENTIALS));
        for secret in
            ["hush-id", "hush-word", "hush-key", "hush-token", "hush-argument", "hush-other"]
        {
            assert!(found.iter().any(|known| known == secret), "{secret}");
        }
        let harmless = |text: &String| text.starts_with("hush") || text == "AKIAEXAMPLE";
        assert!(found.iter().all(harmless), "{found:?}");
    }
}
