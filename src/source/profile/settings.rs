//! How to connect to a service: Region, endpoint, CA bundle, retries. This is the only place that decides them.
//!
//! Each setting comes from the first of these that has it: the program, the environment, the chosen profile. For the
//! Region there are more: the other profiles of the chain, `[default]`, and the instance metadata.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    environment::Environment,
    files::{Files, Profile, Setting},
    proxy::ProxyUrl,
};
use crate::source::{redact::redact, validate};

/// The settings that are known without a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct Settings {
    /// The profile that was chosen.
    pub(in crate::source) profile: Option<String>,
    pub(in crate::source) region: Option<String>,
    pub(in crate::source) endpoint_url: Option<String>,
    pub(in crate::source) ca_bundle: Option<PathBuf>,
    /// In place of those that the environment names.
    pub(in crate::source) given_proxy: Option<ProxyUrl>,
    pub(in crate::source) max_attempts: Option<u32>,
    pub(in crate::source) adaptive: bool,
    pub(in crate::source) fips: bool,
    pub(in crate::source) dual_stack: bool,
    /// Whether to use the global STS endpoint.
    pub(in crate::source) global: bool,
}

/// The Regions that use the global STS endpoint if `sts_regional_endpoints` is `legacy`.
const LEGACY_REGIONS: [&str; 16] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "aws-global",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// The settings of the program. They take precedence over all others.
#[derive(Clone, Copy, Default)]
pub(in crate::source) struct Explicit<'a> {
    pub(in crate::source) region: Option<&'a str>,
    pub(in crate::source) endpoint_url: Option<&'a str>,
    pub(in crate::source) ca_bundle: Option<&'a Path>,
    pub(in crate::source) proxy: Option<&'a ProxyUrl>,
    pub(in crate::source) max_attempts: Option<u32>,
}

/// Where a value was found.
enum Origin<'a> {
    Variable(&'a str),
    Setting(&'a str, &'a Setting),
}

struct Found<'a> {
    value: String,
    origin: Origin<'a>,
}

impl Found<'_> {
    fn breaks(&self, rule: &str) -> String {
        match &self.origin {
            Origin::Variable(key) => format!("{key} {:?} {rule}", redact(&self.value)),
            Origin::Setting(key, setting) => setting.breaks(key, rule),
        }
    }

    fn checked(self, check: impl Fn(&str) -> Result<(), String>) -> Result<String, String> {
        match check(&self.value) {
            Ok(()) => Ok(self.value),
            Err(problem) => Err(format!("{} ({})", redact(&problem), self.origin)),
        }
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Variable(key) => f.write_str(key),
            Origin::Setting(key, setting) => write!(f, "{key} at {}", setting.place),
        }
    }
}

/// Where to look a setting up: the environment, and then the chosen profile.
struct Lookup<'a> {
    environment: &'a Environment,
    files: &'a Files,
    chosen: Option<&'a Profile>,
}

impl Settings {
    /// The settings of a service, for the chain of profiles in `names`. The first one is the chosen profile.
    ///
    /// # Errors
    /// A value that breaks its rule, with its file and line or its variable.
    pub(in crate::source) fn resolve(
        environment: &Environment,
        files: &Files,
        names: &[String],
        service: &str,
        explicit: Explicit<'_>,
    ) -> Result<Self, String> {
        let chosen = names.first().and_then(|name| files.profile(name));
        let lookup = Lookup { environment, files, chosen };
        let region = match explicit.region {
            Some(region) => Some(region.to_owned()),
            None => lookup.region(names)?,
        };
        let fips = lookup.flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?;
        let dual_stack = lookup.flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?;
        let endpoint_url = match explicit.endpoint_url {
            Some(url) => Some(url.to_owned()),
            None => lookup.endpoint_url(service)?,
        };
        let max_attempts = match explicit.max_attempts {
            Some(attempts) => Some(attempts),
            None => lookup.max_attempts()?,
        };
        let adaptive = lookup.adaptive()?;
        let legacy = service == "sts" && lookup.legacy_sts()?;
        let global = legacy
            && !fips
            && !dual_stack
            && endpoint_url.is_none()
            && region.as_deref().is_some_and(|region| LEGACY_REGIONS.contains(&region));
        let found = || lookup.found("AWS_CA_BUNDLE", "ca_bundle");
        let expanded = |found: Found<'_>| environment.expand(&found.value);
        let ca_bundle = explicit.ca_bundle.map(Path::to_owned).or_else(|| found().map(expanded));
        Ok(Settings {
            profile: names.first().cloned(),
            region,
            endpoint_url,
            ca_bundle,
            given_proxy: explicit.proxy.cloned(),
            max_attempts,
            adaptive,
            fips,
            dual_stack,
            global,
        })
    }
}

impl<'a> Lookup<'a> {
    fn found(&self, variable: &'a str, key: &'a str) -> Option<Found<'a>> {
        self.variable(variable).or_else(|| self.setting(self.chosen, key))
    }

    fn variable<'k>(&self, key: &'k str) -> Option<Found<'k>> {
        let value = self.environment.get(key)?.trim().to_owned();
        Some(Found { value, origin: Origin::Variable(key) })
    }

    fn setting(&self, profile: Option<&'a Profile>, key: &'a str) -> Option<Found<'a>> {
        let setting = profile?.setting(key)?;
        Some(Found { value: setting.value().to_owned(), origin: Origin::Setting(key, setting) })
    }

    fn region(&self, names: &'a [String]) -> Result<Option<String>, String> {
        let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        let profiles = names.iter().map(String::as_str).chain(["default"]);
        let found = variables.into_iter().find_map(|key| self.variable(key)).or_else(|| {
            let mut profiles = profiles.map(|name| self.files.profile(name));
            profiles.find_map(|profile| self.setting(profile, "region"))
        });
        found.map(|found| found.checked(validate::region)).transpose()
    }

    fn flag(&self, variable: &'a str, key: &'a str) -> Result<bool, String> {
        let Some(found) = self.found(variable, key) else { return Ok(false) };
        match found.value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(found.breaks("must be true or false")),
        }
    }

    fn endpoint_url(&self, service: &str) -> Result<Option<String>, String> {
        let ignore = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";
        if self.flag(ignore, "ignore_configured_endpoint_urls")? {
            return Ok(None);
        }
        let own = format!("AWS_ENDPOINT_URL_{}", service.to_uppercase().replace('-', "_"));
        let variables = [own.as_str(), "AWS_ENDPOINT_URL"];
        if let Some(found) = variables.into_iter().find_map(|key| self.variable(key)) {
            return found.checked(validate::endpoint_url).map(Some);
        }
        if let Some((url, place)) = self.of_services(service)? {
            validate::endpoint_url(&url).map_err(|problem| format!("{problem} ({place})"))?;
            return Ok(Some(url));
        }
        let found = self.setting(self.chosen, "endpoint_url");
        found.map(|found| found.checked(validate::endpoint_url)).transpose()
    }

    /// The endpoint of the service in `[services NAME]`, if the profile has `services = NAME`.
    fn of_services(&self, service: &str) -> Result<Option<(String, String)>, String> {
        let Some(setting) = self.chosen.and_then(|profile| profile.setting("services")) else {
            return Ok(None);
        };
        let Some(services) = self.files.services(setting.value()) else {
            return Err(
                setting.breaks("services", "names a [services …] section that does not exist")
            );
        };
        let key = service.replace('-', "_");
        let found = services.nested(&key, "endpoint_url");
        Ok(found.map(|(url, place)| (url.to_owned(), format!("services at {place}"))))
    }

    fn legacy_sts(&self) -> Result<bool, String> {
        let found = self.found("AWS_STS_REGIONAL_ENDPOINTS", "sts_regional_endpoints");
        let Some(found) = found else { return Ok(false) };
        match found.value.to_ascii_lowercase().as_str() {
            "legacy" => Ok(true),
            "regional" => Ok(false),
            _ => Err(found.breaks("must be regional or legacy")),
        }
    }

    fn max_attempts(&self) -> Result<Option<u32>, String> {
        let Some(found) = self.found("AWS_MAX_ATTEMPTS", "max_attempts") else { return Ok(None) };
        match found.value.parse() {
            Ok(attempts) if attempts >= 1 => Ok(Some(attempts)),
            _ => Err(found.breaks("is not a number of attempts, must be 1 or more")),
        }
    }

    /// `legacy` of botocore counts as `standard`: it is nearly the same.
    fn adaptive(&self) -> Result<bool, String> {
        let Some(found) = self.found("AWS_RETRY_MODE", "retry_mode") else { return Ok(false) };
        match found.value.to_ascii_lowercase().as_str() {
            "standard" | "legacy" => Ok(false),
            "adaptive" => Ok(true),
            _ => Err(found.breaks("is unknown, must be standard, adaptive or legacy")),
        }
    }
}

/// The partition that a Region belongs to.
pub(in crate::source) fn partition(region: &str) -> &'static str {
    const OTHERS: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("us-isof-", "aws-iso-f"),
        ("eu-isoe-", "aws-iso-e"),
        ("eusc-", "aws-eusc"),
    ];
    let found = OTHERS.iter().find(|(prefix, _)| region.starts_with(prefix));
    found.map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::{super::files::tests::files, *};

    fn resolve(
        config: &str,
        variables: &[(&str, &str)],
        names: &[&str],
    ) -> Result<Settings, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let environment = Environment::of(variables.iter().copied());
        Settings::resolve(&environment, &files(config, ""), &names, "sts", Explicit::default())
    }

    const REGIONS: &str = "[default]\nregion = eu-north-1\n[profile app]\nsource_profile = base\n\
                           [profile base]\nregion = eu-central-1\n[profile own]\nregion = eu-west-3\n\
                           [profile empty]\nregion =\n";

    #[test]
    fn the_first_place_with_a_region_decides() {
        let region = |variables: &[(&str, &str)], names: &[&str]| {
            resolve(REGIONS, variables, names).unwrap().region.unwrap()
        };
        let (first, second) = (("AWS_REGION", "us-west-2"), ("AWS_DEFAULT_REGION", "us-west-1"));
        assert_eq!(region(&[first, second], &["own"]), "us-west-2");
        assert_eq!(region(&[second], &["own"]), "us-west-1");
        assert_eq!(region(&[("AWS_REGION", ""), second], &["own"]), "us-west-1");
        assert_eq!(region(&[], &["own", "base"]), "eu-west-3");
        assert_eq!(region(&[], &["app", "base"]), "eu-central-1");
        assert_eq!(region(&[], &["empty", "base"]), "eu-central-1");
        assert_eq!(region(&[], &["empty"]), "eu-north-1");
        assert_eq!(region(&[], &[]), "eu-north-1");
        assert_eq!(resolve("", &[], &["app"]).unwrap().region, None);
        let explicit = Explicit { region: Some("ap-east-1"), ..Explicit::default() };
        let environment = Environment::of([first]);
        let files = files(REGIONS, "");
        let found = Settings::resolve(&environment, &files, &[], "sts", explicit).unwrap();
        assert_eq!(found.region.as_deref(), Some("ap-east-1"));
    }

    const SERVICES: &str = "[profile app]\nregion = eu-west-1\nservices = local\nendpoint_url = http://all\n\
                            [services local]\nsts =\n  endpoint_url = http://sts\nsso_oidc =\n\
                            \x20 endpoint_url = http://oidc\n";

    #[test]
    fn the_first_place_with_an_endpoint_decides() {
        let url = |config: &str, variables: &[(&str, &str)]| {
            resolve(config, variables, &["app"]).unwrap().endpoint_url
        };
        let own = ("AWS_ENDPOINT_URL_STS", "http://own");
        let all = ("AWS_ENDPOINT_URL", "http://every");
        assert_eq!(url(SERVICES, &[own, all]).as_deref(), Some("http://own"));
        assert_eq!(url(SERVICES, &[all]).as_deref(), Some("http://every"));
        assert_eq!(url(SERVICES, &[("AWS_ENDPOINT_URL_STS", "")]).as_deref(), Some("http://sts"));
        let bare = SERVICES.replace("services = local\n", "");
        assert_eq!(url(&bare, &[]).as_deref(), Some("http://all"));
        let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        assert_eq!(url(SERVICES, &[own, ignored]), None);
        let ignoring =
            SERVICES.replace("services = local", "ignore_configured_endpoint_urls = TRUE");
        assert_eq!(url(&ignoring, &[own]), None);
        let names = ["app".to_owned()];
        let oidc = Settings::resolve(
            &Environment::of([("A", "b")]),
            &files(SERVICES, ""),
            &names,
            "sso-oidc",
            Explicit::default(),
        );
        assert_eq!(oidc.unwrap().endpoint_url.as_deref(), Some("http://oidc"));
    }

    #[test]
    fn the_environment_takes_precedence_over_each_setting_of_the_profile() {
        let config = "[profile app]\nregion = eu-west-1\nca_bundle = ~/ca.pem\nmax_attempts = 4\n\
                      retry_mode = adaptive\nuse_fips_endpoint = true\nuse_dualstack_endpoint = True\n\
                      [profile old]\nregion = eu-west-1\nsts_regional_endpoints = legacy\n";
        let home = ("HOME", "/home/jo");
        let settings = resolve(config, &[home], &["app"]).unwrap();
        assert_eq!(settings.ca_bundle, Some(PathBuf::from("/home/jo/ca.pem")));
        assert_eq!(settings.max_attempts, Some(4));
        assert!(settings.adaptive && settings.fips && settings.dual_stack && !settings.global);
        let variables = [
            ("AWS_CA_BUNDLE", "/ca.pem"),
            ("AWS_MAX_ATTEMPTS", "7"),
            ("AWS_RETRY_MODE", "standard"),
            ("AWS_USE_FIPS_ENDPOINT", "false"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "false"),
        ];
        let settings = resolve(config, &variables, &["app"]).unwrap();
        assert_eq!(settings.ca_bundle, Some(PathBuf::from("/ca.pem")));
        assert_eq!(settings.max_attempts, Some(7));
        assert!(!settings.adaptive && !settings.fips && !settings.dual_stack);
        assert!(resolve(config, &[], &["old"]).unwrap().global);
        let regional = ("AWS_STS_REGIONAL_ENDPOINTS", "regional");
        assert!(!resolve(config, &[regional], &["old"]).unwrap().global);
        assert!(!resolve(config, &[("AWS_REGION", "eu-south-1")], &["old"]).unwrap().global);
        assert!(!resolve(config, &[("AWS_ENDPOINT_URL", "http://x")], &["old"]).unwrap().global);
    }

    #[test]
    fn a_value_that_breaks_its_rule_is_named_with_its_place() {
        for (line, rule) in [
            ("region = EU West", "region \"EU West\" is not the name of a Region"),
            ("region = \"eu-west-1\"", "is not the name of a Region"),
            ("endpoint_url = localhost:4566", "endpoint_url is not an address"),
            ("services = nope", "services \"nope\""),
            ("max_attempts = abc", "max_attempts \"abc\""),
            ("max_attempts = 0", "max_attempts \"0\""),
            ("retry_mode = bogus", "retry_mode \"bogus\""),
            ("use_fips_endpoint = yes", "use_fips_endpoint \"yes\""),
            ("sts_regional_endpoints = bogus", "sts_regional_endpoints \"bogus\""),
        ] {
            let error = resolve(&format!("[profile app]\n{line}\n"), &[], &["app"]).unwrap_err();
            assert!(error.contains(rule) && error.contains(".aws/config line 2"), "{error}");
        }
        for (key, value) in [
            ("AWS_REGION", "EU West"),
            ("AWS_ENDPOINT_URL_STS", "localhost:4566"),
            ("AWS_ENDPOINT_URL", "http://me:hush@host"),
            ("AWS_MAX_ATTEMPTS", "-1"),
            ("AWS_RETRY_MODE", "bogus"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "1"),
            ("AWS_STS_REGIONAL_ENDPOINTS", "bogus"),
            ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "yes"),
        ] {
            let error = resolve("", &[(key, value)], &[]).unwrap_err();
            assert!(error.contains(key) && !error.contains("hush"), "{error}");
        }
    }
}
