//! From a profile to the way to its credentials: what comes first, and the roles that are assumed with it.

use std::{collections::BTreeSet, time::Duration};

use aws_credential_types::Credentials;

use super::files::{Files, Place, Profile, Setting};
use crate::source::{KeysOf, moment, redact::redact};

/// A way that ends in the profile's credentials.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) base: Base,
    /// In the order in which they are assumed.
    pub(super) roles: Vec<Role>,
    /// The profiles on the way, the one that was asked for first.
    pub(super) names: Vec<String>,
}

/// What needs no other credentials.
#[derive(Debug)]
pub(super) enum Base {
    Keys(Credentials),
    Environment,
    Container,
    Instance,
    WebIdentity(WebIdentity),
    Sso(Sso),
    /// A command line, and the account that its answer may not name.
    Process(String, Option<String>),
    /// The session of `aws login`.
    Login(String),
}

#[derive(Debug)]
pub(super) struct WebIdentity {
    pub(super) role_arn: String,
    pub(super) token_file: String,
    pub(super) session_name: Option<String>,
    pub(super) duration: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Sso {
    pub(super) session: Option<String>,
    pub(super) start_url: String,
    pub(super) region: String,
    pub(super) account_id: String,
    pub(super) role_name: String,
}

/// A role that a profile assumes.
#[derive(Debug)]
pub(super) struct Role {
    /// Where the profile says so.
    pub(super) place: Place,
    pub(super) role_arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) duration: Option<Duration>,
    pub(super) mfa_serial: Option<String>,
}

/// The variables of keys that expire, as the common programs write them into the credentials file.
const EXPIRIES: [&str; 6] = [
    "aws_expiration",
    "aws_credential_expiration",
    "aws_session_expiration",
    "x_security_token_expires",
    "token_expiration",
    "expiration",
];

/// # Errors
/// What is wrong, in which file and line.
pub(super) fn resolve(files: &Files, name: &str) -> Result<Chain, String> {
    let mut names: Vec<String> = Vec::new();
    let mut roles = Vec::new();
    let mut next = name.to_owned();
    let base = loop {
        let profile = files.profile(&next).ok_or_else(|| missing(files, &names, &next))?;
        if names.contains(&next) {
            return Err(format!(
                "the profiles form a loop: {}, and {next} again; one of them must have credentials of its own",
                names.join(", ")
            ));
        }
        names.push(next.clone());
        let explained = |text: String| explained(files, &next, text);
        let of = Of { files, name: &next, profile };
        // Behind a role, keys are what a profile is for.
        if names.len() > 1
            && let Some(keys) = of.keys().map_err(explained)?
        {
            break Base::Keys(keys);
        }
        let source = match of.role().map_err(explained)? {
            None => break of.base().map_err(explained)?,
            Some((role, source)) => {
                roles.push(role);
                source
            }
        };
        match source {
            Some(source) if source != next => next = source,
            _ => break of.base().map_err(explained)?,
        }
    };
    roles.reverse();
    Ok(Chain { base, roles, names })
}

/// The profile and those that it names by `source_profile`, whether or not that leads to credentials.
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

/// A line that cannot be read may be the one that is missed.
fn explained(files: &Files, name: &str, text: String) -> String {
    match files.problems(name) {
        Some(problems) => format!("{text}; {problems}"),
        None => text,
    }
}

/// One profile and its name, for what it says.
struct Of<'a> {
    files: &'a Files,
    name: &'a str,
    profile: &'a Profile,
}

impl Of<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.profile.get(key).map(str::to_owned)
    }

    /// The role, and the profile that signs in for it; this one where that is not named.
    fn role(&self) -> Result<Option<(Role, Option<String>)>, String> {
        let Some(arn) = self.profile.setting("role_arn") else { return Ok(None) };
        if self.profile.get("web_identity_token_file").is_some() {
            return Ok(None);
        }
        let (source, named) = (self.text("source_profile"), self.text("credential_source"));
        if source.is_some() == named.is_some() {
            let problem = if named.is_some() { "both" } else { "neither" };
            return Err(format!(
                "profile {:?} has role_arn ({}) and {problem} of source_profile and credential_source; it \
                 must have one, which signs in for the role",
                self.name, arn.place
            ));
        }
        let role = Role {
            place: arn.place.clone(),
            role_arn: arn.value().to_owned(),
            session_name: self.text("role_session_name"),
            external_id: self.text("external_id"),
            duration: self.duration()?,
            mfa_serial: self.text("mfa_serial"),
        };
        Ok(Some((role, source)))
    }

    fn duration(&self) -> Result<Option<Duration>, String> {
        let Some(setting) = self.profile.setting("duration_seconds") else { return Ok(None) };
        let seconds = setting.value().parse().map_err(|_| {
            wrong("duration_seconds", setting, "is no number of seconds, must be 900 to 43200")
        })?;
        Ok(Some(Duration::from_secs(seconds)))
    }

    fn base(&self) -> Result<Base, String> {
        if let Some(source) = self.profile.setting("credential_source") {
            return match source.value() {
                "Environment" => Ok(Base::Environment),
                "EcsContainer" => Ok(Base::Container),
                "Ec2InstanceMetadata" => Ok(Base::Instance),
                _ => Err(wrong(
                    "credential_source",
                    source,
                    "is unknown, must be Environment, EcsContainer or Ec2InstanceMetadata",
                )),
            };
        }
        if let Some(token_file) = self.text("web_identity_token_file") {
            return self.web_identity(token_file).map(Base::WebIdentity);
        }
        if let Some(sso) = self.sso()? {
            return Ok(Base::Sso(sso));
        }
        if let Some(session) = self.text("login_session") {
            return Ok(Base::Login(session));
        }
        if let Some(command) = self.text("credential_process") {
            return Ok(Base::Process(command, self.text("aws_account_id")));
        }
        self.keys()?.map(Base::Keys).ok_or_else(|| {
            format!(
                "profile {:?} has no credentials: none of role_arn, web_identity_token_file, sso_session, \
                 login_session, credential_process and aws_access_key_id{}",
                self.name,
                self.place().map_or(String::new(), |place| format!(" (it is at {place})"))
            )
        })
    }

    fn place(&self) -> Option<&Place> {
        self.profile.settings().next().map(|(_, setting)| &setting.place)
    }

    fn web_identity(&self, token_file: String) -> Result<WebIdentity, String> {
        let role_arn = self.text("role_arn").ok_or_else(|| {
            format!("profile {:?} has web_identity_token_file and no role_arn", self.name)
        })?;
        let (session_name, duration) = (self.text("role_session_name"), self.duration()?);
        Ok(WebIdentity { role_arn, token_file, session_name, duration })
    }

    fn sso(&self) -> Result<Option<Sso>, String> {
        let keys = ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name"];
        if keys.iter().all(|key| self.profile.get(key).is_none()) {
            return Ok(None);
        }
        let session = self.text("sso_session");
        let (start_url, region) = match &session {
            None => (self.needed("sso_start_url")?, self.needed("sso_region")?),
            Some(name) => self.sso_session(name)?,
        };
        let (account_id, role_name) =
            (self.needed("sso_account_id")?, self.needed("sso_role_name")?);
        Ok(Some(Sso { session, start_url, region, account_id, role_name }))
    }

    /// What the session says, which the profile may repeat.
    fn sso_session(&self, name: &str) -> Result<(String, String), String> {
        let Some(session) = self.files.sso_session(name) else {
            return Err(format!(
                "profile {:?} has sso_session = {name}, and there is no [sso-session {name}]",
                self.name
            ));
        };
        let value = |key: &str| match (session.get(key), self.profile.get(key)) {
            (Some(own), Some(other)) if own != other => {
                Err(format!("profile {:?} and [sso-session {name}] differ in {key}", self.name))
            }
            (Some(value), _) | (None, Some(value)) => Ok(value.to_owned()),
            (None, None) => Err(format!("[sso-session {name}] has no {key}")),
        };
        Ok((value("sso_start_url")?, value("sso_region")?))
    }

    fn needed(&self, key: &str) -> Result<String, String> {
        self.text(key)
            .ok_or_else(|| format!("profile {:?} has settings of SSO, but no {key}", self.name))
    }

    fn keys(&self) -> Result<Option<Credentials>, String> {
        let id = self.profile.setting("aws_access_key_id");
        let secret = self.profile.setting("aws_secret_access_key");
        let (id, secret) = match (id, secret) {
            (Some(id), Some(secret)) => (id, secret),
            (None, None) => return Ok(None),
            (Some(id), None) => {
                return Err(self.half("aws_access_key_id", id, "aws_secret_access_key"));
            }
            (None, Some(secret)) => {
                return Err(self.half("aws_secret_access_key", secret, "aws_access_key_id"));
            }
        };
        let token = self.text("aws_session_token").or_else(|| self.text("aws_security_token"));
        let expiry = EXPIRIES.iter().find_map(|key| Some((*key, self.profile.setting(key)?)));
        let (expiry, problem) = match expiry
            .map(|(key, setting)| (key, setting, moment::parse(setting.value())))
        {
            Some((_, _, Some(expiry))) => (Some(expiry), None),
            Some((key, setting, None)) => {
                (None, Some(wrong(key, setting, "is no time, must be like 2030-01-01T00:00:00Z")))
            }
            None => (None, None),
        };
        let mut keys = Credentials::builder()
            .access_key_id(id.value())
            .secret_access_key(secret.value())
            .provider_name("keys of a profile");
        keys.set_session_token(token);
        keys.set_expiry(expiry);
        keys.set_account_id(self.text("aws_account_id").map(Into::into));
        let mut keys = keys.build();
        if expiry.is_none() {
            // Keys that sign in for a role need none.
            keys.set_property(KeysOf(problem.unwrap_or_else(|| {
                format!("profile {:?} has keys ({}) and no aws_expiration", self.name, id.place)
            })));
        }
        Ok(Some(keys))
    }

    fn half(&self, key: &str, setting: &Setting, other: &str) -> String {
        format!("profile {:?} has {key} ({}), but no {other}", self.name, setting.place)
    }
}

/// A value that breaks a rule.
pub(super) fn wrong(key: &str, setting: &Setting, rule: &str) -> String {
    format!("{key} {:?} ({}) {rule}", redact(setting.value()), setting.place)
}

/// What this library reads of a profile. `docs/PROFILES.md` says what becomes of each.
pub(super) fn credential_keys() -> BTreeSet<&'static str> {
    let named = [
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "aws_security_token",
        "credential_process",
        "credential_source",
        "duration_seconds",
        "external_id",
        "login_session",
        "mfa_serial",
        "role_arn",
        "role_session_name",
        "source_profile",
        "sso_account_id",
        "sso_region",
        "sso_registration_scopes",
        "sso_role_name",
        "sso_session",
        "sso_start_url",
        "web_identity_token_file",
        "x_principal_arn",
    ];
    named.into_iter().chain(EXPIRIES).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{super::files::tests::files, *};

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
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn roles_are_assumed_one_by_one_with_all_that_the_profiles_say() {
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
    fn a_profile_may_sign_in_for_its_own_role() {
        let config = format!("[profile dev]\nrole_arn = {ROLE}/dev\nsource_profile = dev\n");
        let keys = "[dev]\naws_access_key_id = AKIADEV\naws_secret_access_key = s\n";
        let chain = of(&config, keys, "dev").unwrap();
        assert_eq!((key(&chain), chain.roles.len()), ("AKIADEV", 1));
    }

    #[test]
    fn behind_a_role_keys_come_first() {
        let config = format!(
            "[profile a]\nrole_arn = {ROLE}/a\nsource_profile = b\n[profile b]\nrole_arn = {ROLE}/b\n\
             source_profile = a\naws_access_key_id = AKIAB\naws_secret_access_key = s\n"
        );
        let chain = of(&config, "", "a").unwrap();
        assert_eq!((key(&chain), chain.roles.len()), ("AKIAB", 1));
        assert_eq!(of(&config, "", "b").unwrap_err().matches("loop").count(), 1);
    }

    #[test]
    fn every_base_is_found() {
        let base = |settings: &str| {
            of(&format!("[profile x]\n{settings}"), "", "x")
                .map(|chain| format!("{:?}", chain.base))
        };
        for (settings, expected) in [
            ("credential_source = Environment\n", "Environment"),
            ("credential_source = EcsContainer\n", "Container"),
            ("credential_source = Ec2InstanceMetadata\n", "Instance"),
            ("credential_process = a b\naws_account_id = 1\n", "Process(\"a b\", Some(\"1\"))"),
            ("login_session = arn\n", "Login(\"arn\")"),
        ] {
            assert_eq!(base(settings).unwrap(), expected);
        }
        let role = format!("role_arn = {ROLE}/x\ncredential_source = EcsContainer\n");
        assert_eq!(base(&role).unwrap(), "Container");
        let token =
            format!("role_arn = {ROLE}/x\nweb_identity_token_file = /t\nduration_seconds = 900\n");
        let found = base(&token).unwrap();
        assert!(found.contains("token_file: \"/t\"") && found.contains("900s"), "{found}");
        let sso = "sso_start_url = u\nsso_region = r\nsso_account_id = 1\nsso_role_name = n\n";
        let found = base(sso).unwrap();
        assert!(found.contains("session: None") && found.contains("start_url: \"u\""), "{found}");
        let session = "sso_session = s\nsso_account_id = 1\nsso_role_name = n\n\
                       [sso-session s]\nsso_start_url = v\nsso_region = r\n";
        let found = base(session).unwrap();
        assert!(found.contains("Some(\"s\")") && found.contains("start_url: \"v\""), "{found}");
        // What `aws configure sso` of old left beside the session.
        let both = session.replace("sso_session = s", "sso_session = s\nsso_region = r");
        assert_eq!(base(&both).unwrap(), found);
    }

    #[test]
    fn the_expiry_of_keys_is_read_however_it_is_written() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_893_553_445);
        let with = |line: &str| {
            let text = format!("[x]\naws_access_key_id = A\naws_secret_access_key = s\n{line}\n");
            of("", &text, "x")
        };
        for line in [
            "aws_expiration = 2030-01-02T03:04:05.000Z",
            "x_security_token_expires = 2030-01-02T03:04:05+00:00",
            "aws_session_expiration = 2030-01-02T03:04:05+0000",
            "aws_credential_expiration = 2030-01-02T03:04:05Z",
            "expiration = 2030-01-02 03:04:05",
        ] {
            let Base::Keys(keys) = with(line).unwrap().base else { panic!("{line}") };
            assert_eq!(keys.expiry(), Some(moment), "{line}");
        }
        let Base::Keys(keys) = with("aws_security_token = t").unwrap().base else { panic!() };
        assert_eq!((keys.session_token(), keys.expiry()), (Some("t"), None));
        let Base::Keys(keys) = with("aws_expiration = soon").unwrap().base else { panic!() };
        let KeysOf(error) = keys.get_property().unwrap();
        assert!(error.contains("aws_expiration \"soon\"") && error.contains("line 4"), "{error}");
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        let role = format!("role_arn = {ROLE}/x\n");
        for (settings, expected) in [
            ("region = a\n".to_owned(), "has no credentials"),
            (role.clone(), "neither of source_profile and credential_source"),
            (role.clone() + "source_profile = y\ncredential_source = Environment\n", "both of"),
            (
                role.clone() + "source_profile = y\n",
                "source_profile = y, but there is no profile \"y\"",
            ),
            (role.clone() + "source_profile = x\n", "has no credentials"),
            (role + "source_profile = x\nduration_seconds = 1h\n", "duration_seconds \"1h\""),
            ("credential_source = EC2\n".into(), "must be Environment, EcsContainer or"),
            ("web_identity_token_file = t\n".into(), "and no role_arn"),
            (
                "sso_session = s\nsso_account_id = 1\nsso_role_name = n\n".into(),
                "no [sso-session s]",
            ),
            ("sso_start_url = u\nsso_region = r\n".into(), "no sso_account_id"),
            ("sso_start_url = u\n".into(), "no sso_region"),
            ("aws_access_key_id = A\n".into(), "no aws_secret_access_key"),
            ("aws_secret_access_key = hush\n".into(), "no aws_access_key_id"),
            ("region = a\nhush\n".into(), "line 3: it is neither"),
        ] {
            let error = refused(&format!("[profile x]\n{settings}"), "x");
            assert!(error.contains(expected) && !error.contains("hush"), "{error}");
            assert!(error.contains("\"x\"") || error.contains("line "), "{error}");
        }
        let differ = "[profile x]\nsso_session = s\nsso_start_url = a\nsso_account_id = 1\nsso_role_name = n\n\
                      [sso-session s]\nsso_start_url = b\nsso_region = r\n";
        assert!(refused(differ, "x").contains("differ in sso_start_url"));
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
    fn the_profiles_on_the_way_are_known_without_credentials() {
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
