//! The AWS config and credentials files, merged into profiles. They are read for each set, because they change.

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc};

use super::{
    environment::Environment,
    ini::{self, Document, Property, Section},
};
use crate::source::{redact::redact, user_file};

/// The contents of both files.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Files {
    profiles: BTreeMap<String, Profile>,
    sso_sessions: BTreeMap<String, Profile>,
    services: BTreeMap<String, Profile>,
    /// Sections of the config file that lack the word `profile`.
    unprefixed: Vec<String>,
    /// The lines that cannot be read.
    problems: Vec<FileProblem>,
    /// Both paths, also if the files do not exist.
    paths: Vec<PathBuf>,
}

/// The settings of a section: of a profile, an SSO session, or services.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Profile {
    settings: BTreeMap<String, Setting>,
}

/// A property, and where it is.
#[derive(Clone, Debug)]
pub(in crate::source) struct Setting {
    pub(super) property: Property,
    pub(in crate::source) place: Location,
}

/// A file and a line in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Location {
    path: Arc<PathBuf>,
    line: usize,
}

#[derive(Clone, Debug)]
struct FileProblem {
    place: Location,
    section: Option<String>,
    text: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.path.display()),
            line => write!(f, "{} line {line}", self.path.display()),
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl Files {
    pub(in crate::source) fn read(environment: &Environment) -> Self {
        let path = |variable, name| {
            Arc::new(environment.path(variable).unwrap_or_else(|| environment.in_home(name)))
        };
        let mut files = Files::default();
        let config = path("AWS_CONFIG_FILE", "config");
        let credentials = path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let document = files.open(&config);
        files.add_config(&config, document);
        let document = files.open(&credentials);
        files.add_credentials(&credentials, document);
        files
    }

    /// An absent file counts as empty.
    fn open(&mut self, path: &Arc<PathBuf>) -> Document {
        self.paths.push(path.to_path_buf());
        let problem = match user_file::bytes(path) {
            Ok(bytes) => {
                let document = ini::parse(&bytes);
                self.problems.extend(document.problems.iter().map(|problem| FileProblem {
                    place: Location { path: Arc::clone(path), line: problem.line },
                    section: problem.section.clone(),
                    text: problem.text.to_owned(),
                }));
                return document;
            }
            Err(error) if is_absent(&error) => return Document::default(),
            Err(error) => format!("it cannot be read: {}", crate::errno::told(&error)),
        };
        let place = Location { path: Arc::clone(path), line: 0 };
        self.problems.push(FileProblem { place, section: None, text: problem });
        Document::default()
    }

    fn add_config(&mut self, path: &Arc<PathBuf>, document: Document) {
        // `[profile default]` takes precedence over `[default]`, in any order.
        let spelled_out = |section: &Section| section_name(&section.name) == ("profile", "default");
        let full = document.sections.iter().any(spelled_out);
        for section in document.sections {
            let (kind, name) = section_name(&section.name);
            let table = match kind {
                "profile" if !name.is_empty() => &mut self.profiles,
                "sso-session" if !name.is_empty() => &mut self.sso_sessions,
                "services" if !name.is_empty() => &mut self.services,
                "" if name == "default" && !full => &mut self.profiles,
                "" if name == "default" => continue,
                _ => {
                    self.unprefixed.push(section.name);
                    continue;
                }
            };
            table.entry(name.to_owned()).or_default().add(path, section.properties);
        }
    }

    /// In this file a section has the name of its profile. Its settings take precedence over the config file.
    fn add_credentials(&mut self, path: &Arc<PathBuf>, document: Document) {
        for section in document.sections {
            let name = unquoted(&section.name).to_owned();
            self.profiles.entry(name).or_default().add(path, section.properties);
        }
    }

    pub(in crate::source) fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name)
    }

    pub(super) fn profiles(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.profiles.iter().map(|(name, profile)| (name.as_str(), profile))
    }

    pub(super) fn all_services(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.services.iter().map(|(name, services)| (name.as_str(), services))
    }

    pub(super) fn sso_session(&self, name: &str) -> Option<&Profile> {
        self.sso_sessions.get(name)
    }

    pub(super) fn services(&self, name: &str) -> Option<&Profile> {
        self.services.get(name)
    }

    /// Why there is no such profile: the files, their profiles, and the lines that cannot be read.
    pub(in crate::source) fn absence(&self, name: &str) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        let mut text = format!("there is no profile {name:?} in {}", paths.join(" or "));
        let bare = self.unprefixed.iter().any(|section| unquoted(section) == name);
        if bare {
            text += &format!("; [{name}] must be written [profile {name}] in the config file");
        } else if self.profiles.contains_key(&format!("profile {name}")) {
            text += &format!("; [profile {name}] must be written [{name}] in the credentials file");
        }
        if let Some(problems) = self.problems_of(|problem| {
            problem.section.as_deref().is_none_or(|section| section.contains(name))
        }) {
            return format!("{text}; {problems}");
        }
        let names: Vec<&str> = self.profiles.keys().map(String::as_str).take(20).collect();
        match names.is_empty() {
            true => format!("{text}; these files define no profile"),
            false => format!("{text}; the profiles are: {}", names.join(", ")),
        }
    }

    /// The lines of this profile's sections that could not be read.
    pub(super) fn problems(&self, name: &str) -> Option<String> {
        self.problems_of(|problem| {
            problem.section.as_deref().is_some_and(|section| section_name(section).1 == name)
        })
    }

    /// All lines that cannot be read.
    pub(in crate::source) fn all_problems(&self) -> Option<String> {
        self.problems_of(|_| true)
    }

    fn problems_of(&self, wanted: impl Fn(&FileProblem) -> bool) -> Option<String> {
        let found = self.problems.iter().filter(|problem| wanted(problem)).take(3);
        let texts: Vec<String> = found.map(ToString::to_string).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

impl Profile {
    fn add(&mut self, path: &Arc<PathBuf>, properties: BTreeMap<String, Property>) {
        for (key, property) in properties {
            let place = Location { path: Arc::clone(path), line: property.line };
            self.settings.insert(key, Setting { property, place });
        }
    }

    /// A setting with a value. An empty one counts as absent.
    pub(in crate::source) fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key).filter(|setting| !setting.property.value.is_empty())
    }

    pub(in crate::source) fn get(&self, key: &str) -> Option<&str> {
        self.setting(key).map(Setting::value)
    }

    pub(super) fn nested(&self, key: &str, inner: &str) -> Option<(&str, &Location)> {
        let setting = self.settings.get(key)?;
        let value = setting.property.nested.get(inner).filter(|value| !value.is_empty())?;
        Some((value, &setting.place))
    }

    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }
}

impl Setting {
    pub(in crate::source) fn value(&self) -> &str {
        &self.property.value
    }

    /// Says that the value of `key` breaks its rule, and where it is.
    pub(super) fn breaks(&self, key: &str, rule: &str) -> String {
        format!("{key} {:?} ({}) {rule}", redact(self.value()), self.place)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The kind of a section of the config file, and its name: `profile "a b"`, `profile a b`, `default`.
fn section_name(text: &str) -> (&str, &str) {
    for kind in ["profile", "sso-session", "services"] {
        if let Some(rest) = text.strip_prefix(kind)
            && rest.starts_with(|c: char| c.is_whitespace() || c == '"' || c == '\'')
        {
            return (kind, unquoted(rest));
        }
    }
    ("", text)
}

fn unquoted(name: &str) -> &str {
    let name = name.trim();
    let quoted = |quote| name.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(name)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// Both files, in a new directory.
    pub(in crate::source::profile) fn files(config: &str, credentials: &str) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join(".aws");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("config"), config).unwrap();
        fs::write(home.join("credentials"), credentials).unwrap();
        Files::read(&Environment::of([("HOME", folder.path().to_str().unwrap())]))
    }

    #[test]
    fn names_of_every_kind_are_found() {
        let config = "[default]\nregion = a\n[profile one]\nregion = b\n[profile \"two words\"]\n\
                      region = c\n[profile three more words]\nregion = d\n[ profile  'four' ]\nregion = e\n\
                      [profile\tfive]\nregion = f\n[sso-session corp]\nsso_region = g\n\
                      [services \"local\"]\nsts =\n  endpoint_url = h\n";
        let files = files(config, "[one]\naws_access_key_id = AKIA\n[six]\nregion = i\n");
        for (name, region) in [
            ("default", "a"),
            ("one", "b"),
            ("two words", "c"),
            ("three more words", "d"),
            ("four", "e"),
            ("five", "f"),
            ("six", "i"),
        ] {
            assert_eq!(files.profile(name).unwrap().get("region"), Some(region), "{name}");
        }
        assert_eq!(files.profile("one").unwrap().get("aws_access_key_id"), Some("AKIA"));
        assert_eq!(files.sso_session("corp").unwrap().get("sso_region"), Some("g"));
        let local = files.services("local").unwrap();
        assert_eq!(local.nested("sts", "endpoint_url").unwrap().0, "h");
    }

    #[test]
    fn the_credentials_file_and_the_full_default_take_precedence() {
        let config = "[profile default]\nregion = a\n[default]\nregion = b\noutput = json\n[profile x]\nregion = c\n";
        let files = files(config, "[x]\nregion = d\n");
        assert_eq!(files.profile("default").unwrap().get("region"), Some("a"));
        assert_eq!(files.profile("default").unwrap().get("output"), None);
        assert_eq!(files.profile("x").unwrap().get("region"), Some("d"));
    }

    #[test]
    fn an_absence_says_what_was_read_and_what_to_do() {
        let files = files("[app]\nregion = a\n[profile web]\nregion = b\n[profile ap\nx = 1\n", "");
        let bare = files.absence("app");
        assert!(bare.contains("[app] must be written [profile app]"), "{bare}");
        assert!(bare.contains(".aws/config") && bare.contains(".aws/credentials"), "{bare}");
        let other = files.absence("wbe");
        assert!(other.ends_with("the profiles are: web"), "{other}");
        let broken = files.absence("ap");
        assert!(broken.contains("config line 5: the section name has no closing ]"), "{broken}");
        let absent = Files::read(&Environment::of([("HOME", "/no/such/home")])).absence("app");
        assert!(absent.contains("/no/such/home/.aws/config"), "{absent}");
        assert!(absent.ends_with("these files define no profile"), "{absent}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let files =
            Files::read(&Environment::of([("AWS_CONFIG_FILE", path), ("HOME", "/nowhere")]));
        let problems = files.all_problems().unwrap();
        assert!(problems.contains(path) && problems.contains("it cannot be read"), "{problems}");
    }
}
