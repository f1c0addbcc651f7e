//! The chain of profiles that leads to credentials: the base credentials, and the roles that are assumed with them.

use std::fmt;

use super::{
    files::Files,
    keys,
    one_profile::{Base, ProfileReader, Role},
};

/// How to get the credentials of a profile.
pub(super) struct Chain {
    pub(super) base: Base,
    /// The roles, in the order in which they are assumed.
    pub(super) roles: Vec<Role>,
    /// The names of the profiles in the chain. The requested profile is the first.
    pub(super) names: Vec<String>,
}

/// Neither keys nor command lines, which may have secrets.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Finds the chain of a profile.
///
/// # Errors
/// The problem, with file and line.
pub(super) fn resolve(files: &Files, name: &str) -> Result<Chain, String> {
    let mut names: Vec<String> = Vec::new();
    let mut roles = Vec::new();
    let mut next = name.to_owned();
    let base = loop {
        let profile = files.profile(&next).ok_or_else(|| missing(files, &names, &next))?;
        if names.contains(&next) {
            return Err(format!(
                "the profiles form a loop: {}, and {next} again; one of them must have its own credentials",
                names.join(", ")
            ));
        }
        names.push(next.clone());
        let explained = |text: String| explained(files, &next, text);
        let reader = ProfileReader { files, name: &next, profile };
        // In a profile that source_profile names, keys take precedence.
        if names.len() > 1
            && let Some(keys) = keys::by_profile(&next, profile).map_err(explained)?
        {
            break Base::Keys(keys);
        }
        let source = match reader.role().map_err(explained)? {
            None => break reader.base().map_err(explained)?,
            Some((role, source)) => {
                roles.push(role);
                source
            }
        };
        match source {
            Some(source) if source != next => next = source,
            _ => break reader.base().map_err(explained)?,
        }
    };
    roles.reverse();
    Ok(Chain { base, roles, names })
}

/// The profile and the profiles that it names with `source_profile`, also if the chain has no credentials.
pub(super) fn names(files: &Files, name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    while let Some(next) = names.last().and_then(|last| files.profile(last)?.get("source_profile"))
    {
        if names.iter().any(|name| name == next) {
            break;
        }
        names.push(next.to_owned());
    }
    names
}

fn missing(files: &Files, names: &[String], name: &str) -> String {
    let absence = files.absence(name);
    match names.last() {
        Some(from) => format!("profile {from:?} has source_profile = {name}, but {absence}"),
        None => absence,
    }
}

/// Adds the invalid lines of the profile: one of them may be the missing setting.
fn explained(files: &Files, name: &str, text: String) -> String {
    match files.problems(name) {
        Some(problems) => format!("{text}; {problems}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{files::tests::files, one_profile::Base},
        *,
    };

    const ROLE: &str = "arn:aws:iam::123456789012:role";

    fn of(config: &str, credentials: &str, name: &str) -> Result<Chain, String> {
        resolve(&files(config, credentials), name)
    }

    fn refused(config: &str, name: &str) -> String {
        of(config, "", name).unwrap_err()
    }

    fn key(chain: &Chain) -> &str {
        match &chain.base {
            Base::Keys(keys) => keys.access_key_id(),
            _ => panic!("it has no keys"),
        }
    }

    #[test]
    fn roles_are_assumed_in_order_with_all_settings_of_their_profiles() {
        let config = format!(
            "[profile app]\nrole_arn = {ROLE}/app\nsource_profile = hub\nexternal_id = ext/42\n\
             role_session_name = jo@example.com\nduration_seconds = 900\nmfa_serial = arn:mfa\n\
             [profile hub]\nrole_arn = {ROLE}/hub\nsource_profile = base\n[profile base]\nregion = a\n"
        );
        let keys = "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n";
        let chain = of(&config, keys, "app").unwrap();
        assert_eq!(key(&chain), "AKIABASE");
        assert_eq!(chain.names, ["app", "hub", "base"]);
        let [hub, app] = &chain.roles[..] else { panic!("{:?}", chain.roles) };
        assert_eq!(hub.role_arn, format!("{ROLE}/hub"));
        assert_eq!(hub.external_id, None);
        assert_eq!(app.role_arn, format!("{ROLE}/app"));
        assert_eq!(app.external_id.as_deref(), Some("ext/42"));
        assert_eq!(app.session_name.as_deref(), Some("jo@example.com"));
        assert_eq!(app.duration, Some(Duration::from_secs(900)));
        assert_eq!(app.mfa_serial.as_deref(), Some("arn:mfa"));
        assert!(app.place.to_string().ends_with(".aws/config line 2"), "{}", app.place);
    }

    #[test]
    fn a_profile_may_hold_the_keys_for_its_own_role() {
        let config = format!("[profile dev]\nrole_arn = {ROLE}/dev\nsource_profile = dev\n");
        let keys = "[dev]\naws_access_key_id = AKIADEV\naws_secret_access_key = s\n";
        let chain = of(&config, keys, "dev").unwrap();
        assert_eq!((key(&chain), chain.roles.len()), ("AKIADEV", 1));
    }

    #[test]
    fn in_a_source_profile_keys_come_first() {
        let config = format!(
            "[profile a]\nrole_arn = {ROLE}/a\nsource_profile = b\n[profile b]\nrole_arn = {ROLE}/b\n\
             source_profile = a\naws_access_key_id = AKIAB\naws_secret_access_key = s\n"
        );
        let chain = of(&config, "", "a").unwrap();
        assert_eq!((key(&chain), chain.roles.len()), ("AKIAB", 1));
        assert_eq!(of(&config, "", "b").unwrap_err().matches("loop").count(), 1);
    }

    #[test]
    fn a_loop_is_named() {
        let role = |name: &str, next: &str| {
            format!("[profile {name}]\nrole_arn = {ROLE}/{name}\nsource_profile = {next}\n")
        };
        let error = refused(&(role("a", "b") + &role("b", "c") + &role("c", "a")), "a");
        assert!(error.contains("form a loop: a, b, c, and a again"), "{error}");
    }

    #[test]
    fn the_profiles_of_a_chain_are_known_without_credentials() {
        let config = "[profile a]\nsource_profile = b\n[profile b]\nsource_profile = a\n";
        assert_eq!(names(&files(config, ""), "a"), ["a", "b"]);
        assert_eq!(names(&files("", ""), "absent"), ["absent"]);
    }

    #[test]
    fn a_bad_line_elsewhere_does_no_harm() {
        let config =
            "[profile app]\ncredential_process = a\n[profile other] /* old */\nnonsense\n[third\n";
        assert!(matches!(of(config, "", "app").unwrap().base, Base::Process(..)));
    }
}
