//! The AWS config and credentials files, as far as they hold no credential: the settings that CMD keeps.
//!
//! Read as leniently as botocore does: a section or a line that makes no sense hides no other.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

/// The settings of a profile that CMD gets. All others may be credentials, or lead to some.
const KEPT: &[&str] = &[
    "account_id_endpoint_mode",
    "api_versions",
    "auth_scheme_preference",
    "ca_bundle",
    "connect_timeout",
    "csm_client_id",
    "csm_enabled",
    "csm_host",
    "csm_port",
    "defaults_mode",
    "disable_request_compression",
    "ec2_metadata_service_endpoint",
    "ec2_metadata_service_endpoint_mode",
    "ec2_metadata_v1_disabled",
    "endpoint_discovery_enabled",
    "endpoint_url",
    "ignore_configured_endpoint_urls",
    "max_attempts",
    "metadata_service_num_attempts",
    "metadata_service_timeout",
    "output",
    "parameter_validation",
    "region",
    "request_checksum_calculation",
    "request_min_compression_size_bytes",
    "response_checksum_validation",
    "retry_mode",
    "s3",
    "s3_disable_express_session_auth",
    "s3_disable_multiregion_access_points",
    "s3_us_east_1_regional_endpoint",
    "s3_use_arn_region",
    "s3api",
    "s3control",
    "sdk_ua_app_id",
    "services",
    "sigv4a_signing_region_set",
    "sts_regional_endpoints",
    "tcp_keepalive",
    "use_dualstack_endpoint",
    "use_fips_endpoint",
    "user_agent_appid",
    "user_agent_extra",
];

/// Words in the names of settings that hold secrets.
const SECRET_WORDS: [&str; 6] =
    ["access_key", "secret", "session_token", "security_token", "password", "external_id"];

pub(crate) struct Profiles {
    sections: Vec<Section>,
}

struct Section {
    title: Title,
    settings: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Title {
    Profile(String),
    Services(String),
    Other,
}

struct Setting {
    key: String,
    value: String,
    /// The lines below that belong to it.
    nested: Vec<String>,
}

impl Profiles {
    /// Reads both files; one that is not there, or cannot be read, is empty.
    pub(crate) fn read() -> Self {
        let config = file("AWS_CONFIG_FILE", "config");
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        Profiles::parse(&config, &credentials)
    }

    fn parse(config: &str, credentials: &str) -> Self {
        let mut sections = sections(config, title_in_config);
        sections.extend(sections_of_credentials(credentials));
        Profiles { sections }
    }

    /// The value of a profile's setting; the credentials file wins, as in botocore.
    fn get(&self, profile: &str, key: &str) -> Option<&str> {
        let title = Title::Profile(profile.to_owned());
        let sections = self.sections.iter().rev().filter(|section| section.title == title);
        let mut settings = sections.flat_map(|section| section.settings.iter().rev());
        let value = settings.find(|setting| setting.key == key)?.value.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// The Region of a profile, or of the first of its source profiles that has one.
    pub(crate) fn region(&self, profile: &str) -> Option<&str> {
        let (mut profile, mut seen) = (profile, BTreeSet::new());
        while seen.insert(profile) {
            if let Some(region) = self.get(profile, "region") {
                return Some(region);
            }
            profile = self.get(profile, "source_profile")?;
        }
        None
    }

    /// A config file for CMD: the settings that are no credentials, with `chosen` as the default profile.
    pub(crate) fn without_credentials(&self, chosen: &str) -> String {
        let mut text = String::new();
        let mut written = BTreeSet::from(["default".to_owned()]);
        self.write(&mut text, "[default]", &Title::Profile(chosen.to_owned()));
        for title in self.sections.iter().map(|section| &section.title) {
            let (kind, name) = match title {
                Title::Profile(name) => ("profile", name),
                Title::Services(name) => ("services", name),
                Title::Other => continue,
            };
            let key = if kind == "profile" { name.clone() } else { format!("{kind} {name}") };
            if written.insert(key) {
                self.write(&mut text, &format!("[{kind} {}]", quoted(name)), title);
            }
        }
        text
    }

    fn write(&self, text: &mut String, header: &str, title: &Title) {
        let sections = || self.sections.iter().filter(|section| section.title == *title);
        let is_kept = |setting: &&Setting| match title {
            Title::Profile(_) => KEPT.contains(&setting.key.as_str()),
            _ => !is_secret(&setting.key),
        };
        let settings: Vec<&Setting> =
            sections().flat_map(|section| &section.settings).filter(is_kept).collect();
        text.push_str(&format!("{header}\n"));
        for (number, setting) in settings.iter().enumerate() {
            if settings[number + 1..].iter().any(|later| later.key == setting.key) {
                continue;
            }
            text.push_str(&format!("{} = {}\n", setting.key, setting.value));
            for line in setting.nested.iter().filter(|line| !is_secret(&key_of(line))) {
                text.push_str(&format!("    {line}\n"));
            }
        }
    }

    /// All values that no log may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let settings = || self.sections.iter().flat_map(|section| &section.settings);
        let values = settings().filter(|setting| is_secret(&setting.key));
        let arguments = settings()
            .filter(|setting| setting.key == "credential_process")
            .flat_map(|setting| setting.value.split_whitespace().skip(1))
            .map(|word| word.trim_matches(['"', '\'']))
            .filter(|word| !word.starts_with('-') && !word.contains('/'));
        values.map(|setting| setting.value.as_str()).chain(arguments).map(str::to_owned).collect()
    }
}

/// What the environment says, where no profile is chosen otherwise.
pub(crate) fn chosen(option: Option<&str>) -> String {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let environment = || set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE"));
    option.map(str::to_owned).or_else(environment).unwrap_or_else(|| "default".to_owned())
}

fn file(variable: &str, name: &str) -> String {
    let home = env::home_dir().unwrap_or_default();
    let path = match env::var_os(variable).map(PathBuf::from) {
        Some(path) => path.strip_prefix("~").map(|rest| home.join(rest)).unwrap_or(path.clone()),
        None => home.join(Path::new(".aws").join(name)),
    };
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)
}

fn sections(text: &str, title: fn(&str) -> Title) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    // The indentation of the last setting: what is indented deeper belongs to it.
    let mut depth = None;
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some((name, _)) = content.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            sections.push(Section { title: title(name.trim()), settings: Vec::new() });
            depth = None;
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let Some(section) = sections.last_mut() else { continue };
        if depth.is_some_and(|depth| indent > depth) {
            if let Some(setting) = section.settings.last_mut() {
                setting.nested.push(content.to_owned());
            }
        } else if let Some((key, value)) = content.split_once('=') {
            let (key, value) = (key.trim().to_lowercase(), value.trim().to_owned());
            section.settings.push(Setting { key, value, nested: Vec::new() });
            depth = Some(indent);
        } else {
            depth = None;
        }
    }
    sections
}

fn sections_of_credentials(text: &str) -> Vec<Section> {
    sections(text, |name| Title::Profile(unquoted(name)))
}

fn title_in_config(name: &str) -> Title {
    match name.split_once(char::is_whitespace) {
        None if name == "default" => Title::Profile(name.to_owned()),
        Some(("profile", name)) => Title::Profile(unquoted(name.trim())),
        Some(("services", name)) => Title::Services(unquoted(name.trim())),
        _ => Title::Other,
    }
}

fn unquoted(name: &str) -> String {
    name.trim_matches(['"', '\'']).to_owned()
}

fn quoted(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@+:/".contains(c));
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "")) }
}

fn key_of(line: &str) -> String {
    line.split('=').next().unwrap_or_default().trim().to_lowercase()
}

fn is_secret(key: &str) -> bool {
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
# a comment
[default]
region = us-east-1
[profile \"my app\"]
  region = eu-west-1   \r
  s3 =
    addressing_style = path
    # a comment
    aws_secret_access_key = hush-nested
  role_arn = arn:aws:iam::123456789012:role/app
  source_profile = base
  external_id = hush-id
  a line of no sense
      hush = below it
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
credential_process = /opt/helper --key hush-argument
[profile loop]
source_profile = loop
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
        let profiles = Profiles::parse(CONFIG, CREDENTIALS);
        let text = profiles.without_credentials("my app");
        let expected = "\
[default]
region = eu-west-1
s3 = 
    addressing_style = path
retry_mode = adaptive
[profile \"my app\"]
region = eu-west-1
s3 = 
    addressing_style = path
retry_mode = adaptive
[services local]
s3 = 
    endpoint_url = http://127.0.0.1:9000
[profile base]
region = eu-central-1
output = json
[profile child]
[profile loop]
";
        assert_eq!(text, expected);
        // Read again, it says the same.
        assert_eq!(Profiles::parse(&text, "").without_credentials("default"), expected);
        assert!(
            profiles.without_credentials("default").starts_with("[default]\nregion = us-west-2\n")
        );
        assert!(
            profiles.without_credentials("absent").starts_with("[default]\n[profile \"my app\"]")
        );
    }

    #[test]
    fn the_region_is_that_of_the_profile_or_of_its_source() {
        let profiles = Profiles::parse(CONFIG, CREDENTIALS);
        for (profile, region) in [
            ("my app", Some("eu-west-1")),
            ("child", Some("eu-central-1")),
            ("default", Some("us-west-2")),
            ("loop", None),
            ("absent", None),
        ] {
            assert_eq!(profiles.region(profile), region, "{profile}");
        }
    }

    #[test]
    fn all_secrets_are_known() {
        let secrets = Profiles::parse(CONFIG, CREDENTIALS).secrets();
        for secret in ["hush-id", "hush-word", "hush-key", "hush-token", "hush-argument"] {
            assert!(secrets.iter().any(|known| known == secret), "{secret}");
        }
    }

    #[test]
    fn nonsense_is_no_obstacle() {
        for text in ["", "[", "]", "[]", "=", "a = b", "[default\nregion = x", "\u{feff}[default]"]
        {
            let text = Profiles::parse(text, text).without_credentials("default");
            assert!(text.starts_with("[default]\n"), "{text}");
        }
    }
}
