//! One profile: how it says to get its credentials.

use std::time::Duration;

use aws_credential_types::Credentials;

use super::{
    files::{Files, Location, Profile},
    keys,
};

/// A way to credentials that needs no other credentials. Its `Debug` would show keys and command lines: only tests have it.
#[cfg_attr(test, derive(Debug))]
pub(super) enum Base {
    Keys(Credentials),
    Environment,
    Container,
    Instance,
    WebIdentity(WebIdentity),
    Sso(Sso),
    /// A command line, and the account id in case the answer has none.
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
    /// Where the profile sets it.
    pub(super) place: Location,
    pub(super) role_arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) duration: Option<Duration>,
    pub(super) mfa_serial: Option<String>,
}

/// Reads one profile.
pub(super) struct ProfileReader<'a> {
    pub(super) files: &'a Files,
    pub(super) name: &'a str,
    pub(super) profile: &'a Profile,
}

impl ProfileReader<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.profile.get(key).map(str::to_owned)
    }

    /// The role, and the profile with its base credentials. `None` for that profile means this one.
    pub(super) fn role(&self) -> Result<Option<(Role, Option<String>)>, String> {
        let Some(arn) = self.profile.setting("role_arn") else { return Ok(None) };
        if self.profile.get("web_identity_token_file").is_some() {
            return Ok(None);
        }
        let (source, named) = (self.text("source_profile"), self.text("credential_source"));
        if source.is_some() == named.is_some() {
            let problem = if named.is_some() { "both" } else { "neither" };
            return Err(format!(
                "profile {:?} has role_arn ({}) and {problem} of source_profile and credential_source; set \
                 exactly one of them: it gives the credentials that assume the role",
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
            setting.breaks("duration_seconds", "is not a number of seconds, must be 900 to 43200")
        })?;
        Ok(Some(Duration::from_secs(seconds)))
    }

    pub(super) fn base(&self) -> Result<Base, String> {
        if let Some(source) = self.profile.setting("credential_source") {
            return match source.value() {
                "Environment" => Ok(Base::Environment),
                "EcsContainer" => Ok(Base::Container),
                "Ec2InstanceMetadata" => Ok(Base::Instance),
                _ => Err(source.breaks(
                    "credential_source",
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
        keys::by_profile(self.name, self.profile)?.map(Base::Keys).ok_or_else(|| {
            format!(
                "profile {:?} has no credentials: none of role_arn, web_identity_token_file, sso_session, \
                 login_session, credential_process and aws_access_key_id{}",
                self.name,
                self.place().map_or(String::new(), |place| format!(" (it begins at {place})"))
            )
        })
    }

    fn place(&self) -> Option<&Location> {
        self.profile.settings().next().map(|(_, setting)| &setting.place)
    }

    fn web_identity(&self, token_file: String) -> Result<WebIdentity, String> {
        let role_arn = self.text("role_arn").ok_or_else(|| {
            format!("profile {:?} has web_identity_token_file, but no role_arn", self.name)
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

    /// Start URL and Region of the SSO session. The profile may repeat them.
    fn sso_session(&self, name: &str) -> Result<(String, String), String> {
        let Some(session) = self.files.sso_session(name) else {
            return Err(format!(
                "profile {:?} has sso_session = {name}, but there is no [sso-session {name}]",
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
            .ok_or_else(|| format!("profile {:?} has SSO settings, but no {key}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{chain::resolve, files::tests::files};

    const ROLE: &str = "arn:aws:iam::123456789012:role";

    fn base(settings: &str) -> Result<String, String> {
        let files = files(&format!("[profile x]\n{settings}"), "");
        resolve(&files, "x").map(|chain| format!("{:?}", chain.base))
    }

    #[test]
    fn every_base_is_found() {
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
        // Old versions of `aws configure sso` also wrote this setting.
        let both = session.replace("sso_session = s", "sso_session = s\nsso_region = r");
        assert_eq!(base(&both).unwrap(), found);
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
            ("web_identity_token_file = t\n".into(), "but no role_arn"),
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
            let error = base(&settings).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hush"), "{error}");
            assert!(error.contains("\"x\"") || error.contains("line "), "{error}");
        }
        let differ = "sso_session = s\nsso_start_url = a\nsso_account_id = 1\nsso_role_name = n\n\
                      [sso-session s]\nsso_start_url = b\nsso_region = r\n";
        assert!(base(differ).unwrap_err().contains("differ in sso_start_url"));
    }
}
