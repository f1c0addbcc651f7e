//! The way to the credentials of a profile in words: each step with its file and line, without values that are secret.

use super::{
    Profile, chain,
    files::Files,
    one_profile::Base,
    setting_names::{KEPT, credential_keys},
};

/// What was found out about a profile.
#[derive(Debug)]
pub(crate) struct Steps {
    /// The steps, or why there is no way.
    pub(crate) outcome: Result<Vec<String>, String>,
    /// Settings that nothing here reads.
    pub(crate) ignored: Vec<String>,
    /// Lines that cannot be read.
    pub(crate) problems: Option<String>,
}

/// Whether neither file has a profile.
pub(crate) fn without_files(profile: &Profile) -> bool {
    Files::read(&profile.environment).profiles().next().is_none()
}

impl Profile {
    /// The way to the credentials.
    pub(crate) fn steps(&self) -> Steps {
        let files = Files::read(&self.environment);
        let names = chain::names(&files, &self.name);
        let outcome = chain::resolve(&files, &self.name).map(|chain| {
            let mut steps: Vec<String> =
                chain.names.windows(2).map(|pair| assumed(&files, pair)).collect();
            let last = chain.names.last().map_or("", String::as_str);
            if chain.roles.len() == chain.names.len() {
                steps.push(role(&files, last));
            }
            steps.push(base(&files, last, &chain.base));
            steps
        });
        let ignored = names.iter().flat_map(|name| ignored(&files, name)).collect();
        Steps { outcome, ignored, problems: files.all_problems() }
    }
}

fn place(files: &Files, name: &str, key: &str) -> String {
    let setting = files.profile(name).and_then(|profile| profile.setting(key));
    setting.map_or_else(String::new, |setting| format!(" ({})", setting.place))
}

fn role(files: &Files, name: &str) -> String {
    let arn = files.profile(name).and_then(|profile| profile.get("role_arn")).unwrap_or_default();
    format!("{name:?} assumes {arn}{}", place(files, name, "role_arn"))
}

fn assumed(files: &Files, pair: &[String]) -> String {
    let source = place(files, &pair[0], "source_profile");
    format!("{}, with the credentials of {:?}{source}", role(files, &pair[0]), pair[1])
}

/// The setting that gives the base credentials.
fn base(files: &Files, name: &str, base: &Base) -> String {
    let (what, key) = match base {
        Base::Keys(_) => ("has keys", "aws_access_key_id"),
        Base::Environment => ("takes keys from the environment", "credential_source"),
        Base::Container => ("asks the container's endpoint", "credential_source"),
        Base::Instance => ("asks the instance's metadata service", "credential_source"),
        Base::WebIdentity(_) => ("uses a web identity token", "web_identity_token_file"),
        Base::Sso(sso) if sso.session.is_some() => ("signs in by SSO", "sso_session"),
        Base::Sso(_) => ("signs in by SSO", "sso_start_url"),
        Base::Process(..) => ("runs a program", "credential_process"),
        Base::Login(_) => ("uses the session of `aws login`", "login_session"),
    };
    format!("{name:?} {what}: {key}{}", place(files, name, key))
}

/// The settings of a profile that neither lead to credentials nor are handed to CMD.
fn ignored(files: &Files, name: &str) -> Vec<String> {
    let known = credential_keys();
    let Some(profile) = files.profile(name) else { return Vec::new() };
    let unknown = |key: &str| !known.contains(key) && !KEPT.contains(&key);
    let ignored = profile.settings().filter(|(key, _)| unknown(key));
    ignored.map(|(key, setting)| format!("{name:?} sets {key} ({})", setting.place)).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::files::tests::files, *};

    #[test]
    fn each_step_has_its_place_and_no_secret() {
        let config = "[profile a]\nrole_arn = arn:aws:iam::123456789012:role/a\nsource_profile = b\nnonsense = x\n\
                      [profile b]\ncredential_process = /bin/get --hush\n";
        let files = files(config, "");
        let chain = chain::resolve(&files, "a").unwrap();
        let first = assumed(&files, &chain.names);
        assert!(first.starts_with("\"a\" assumes arn:aws:iam::123456789012:role/a ("), "{first}");
        assert!(first.contains("line 2") && first.contains("line 3"), "{first}");
        let last = base(&files, "b", &chain.base);
        assert!(last.contains("credential_process") && last.contains("line 6"), "{last}");
        assert!(!last.contains("hush"), "{last}");
        assert!(ignored(&files, "a")[0].starts_with("\"a\" sets nonsense ("));
        assert!(ignored(&files, "b").is_empty());
    }
}
