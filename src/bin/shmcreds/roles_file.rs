//! The roles file: which roles a pool has for the clients of the endpoint, and where their tokens are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use nix::unistd::{Group, User};

use crate::{
    command_error::{CommandError, DATA, NO_INPUT},
    config,
    errno::told,
    pattern,
    role_inputs::RoleInputs,
    token::{self, TokenPlace},
    toml_table::{self, Reading},
};

/// 10,000 roles need less.
const LONGEST: u64 = 16 * 1024 * 1024;
const LONGEST_NAME: usize = 64;

/// What the file says.
#[derive(Default)]
pub(crate) struct RolesFile {
    /// The patterns of the roles that may be asked for by their ARN. Roles with a name need none.
    pub(crate) allow: Vec<String>,
    pub(crate) capacity: Option<usize>,
    pub(crate) calls_per_second: Option<u32>,
    /// The roles, by name.
    pub(crate) roles: BTreeMap<String, NamedRole>,
    /// The inputs of roles that are asked for by their ARN.
    pub(crate) by_arn: RoleInputs,
    pub(crate) by_arn_token: Option<TokenPlace>,
}

/// A role with a name.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NamedRole {
    pub(crate) arn: String,
    pub(crate) inputs: RoleInputs,
    pub(crate) token: Option<TokenPlace>,
}

impl RolesFile {
    pub(crate) fn read(path: &Path) -> Result<Self, CommandError> {
        let text = config::text(path, LONGEST).map_err(|error| {
            CommandError::new(NO_INPUT, format!("--roles {}: {}", path.display(), told(&error)))
        })?;
        RolesFile::of(&text)
            .map_err(|problem| CommandError::new(DATA, format!("{}: {problem}", path.display())))
    }

    fn of(text: &str) -> Result<Self, String> {
        let parsed = toml_table::parse(text)?;
        let mut top = Reading::new(text, "", parsed.get_ref());
        let allow = top.texts("allow")?;
        let checked = allow.iter().try_for_each(|one| pattern::check(one));
        checked.map_err(|problem| top.problem(&problem))?;
        let (capacity, calls_per_second) =
            (top.number("capacity")?, top.number("calls-per-second")?);
        let directory = top.text("token-directory")?.map(PathBuf::from);
        if directory.as_deref().is_some_and(|path| !path.is_absolute()) {
            return Err(top.problem("token-directory must be an absolute path"));
        }
        let mut file = RolesFile { allow, capacity, calls_per_second, ..RolesFile::default() };
        if let Some(mut table) = top.table("role-arn", "role-arn")? {
            file.by_arn = RoleInputs::read(&mut table)?;
            file.by_arn_token = place(&mut table, None)?;
            if file.allow.is_empty() {
                return Err(table.problem(
                    "no role can be asked for by its ARN; add patterns: allow = [\"arn:…\"]",
                ));
            }
            table.finish()?;
        }
        let named = top.table("role", "role")?;
        top.finish()?;
        let tables =
            named.map_or(Ok(Vec::new()), |named| named.tables(|name| format!("role.{name}")))?;
        let mut paths = BTreeMap::new();
        if let Some(place) = &file.by_arn_token {
            paths.insert(place.path.clone(), "role-arn".to_owned());
        }
        for (name, mut table) in tables {
            check_name(&name).map_err(|problem| table.problem(&problem))?;
            let default = directory.as_ref().map(|directory| directory.join(&name));
            let role = role(&mut table, default)?;
            if let Some(place) = &role.token
                && let Some(other) = paths.insert(place.path.clone(), format!("role.{name}"))
            {
                return Err(table.problem(&format!(
                    "its token file is that of {other}; each role needs a file of its own"
                )));
            }
            table.finish()?;
            file.roles.insert(name, role);
        }
        Ok(file)
    }

    /// What no log may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let inputs = self.roles.values().map(|role| &role.inputs).chain([&self.by_arn]);
        inputs.flat_map(RoleInputs::secrets).map(str::to_owned).collect()
    }
}

/// Whether one of the patterns fits the ARN of a role.
pub(crate) fn allows(patterns: &[String], arn: &str) -> bool {
    patterns.iter().any(|one| pattern::fits(one, arn))
}

fn role(table: &mut Reading<'_>, default: Option<PathBuf>) -> Result<NamedRole, String> {
    let arn = table.text("role-arn")?;
    let arn = arn.ok_or_else(|| table.problem("role-arn is missing: the ARN of the role"))?;
    Ok(NamedRole { arn, inputs: RoleInputs::read(table)?, token: place(table, default)? })
}

/// Where the token of a table belongs.
fn place(table: &mut Reading<'_>, default: Option<PathBuf>) -> Result<Option<TokenPlace>, String> {
    let path = table.text("token-file")?.map(PathBuf::from);
    let owner = id(table, "token-owner", |name| Some(User::from_name(name).ok()??.uid.as_raw()))?;
    let group = id(table, "token-group", |name| Some(Group::from_name(name).ok()??.gid.as_raw()))?;
    let Some(path) = path.or(default) else {
        return match owner.or(group) {
            Some(_) => Err(table
                .problem("token-owner and token-group need a token-file, or a token-directory")),
            None => Ok(None),
        };
    };
    if !token::is_absolute(&path) {
        return Err(table.problem("token-file must be an absolute path of a file"));
    }
    Ok(Some(TokenPlace { path, owner, group }))
}

/// A user or a group: a number, or a name that this host knows.
fn id(
    table: &mut Reading<'_>,
    key: &'static str,
    of_name: impl Fn(&str) -> Option<u32>,
) -> Result<Option<u32>, String> {
    if table.is_number(key) {
        return table.number(key);
    }
    let Some(name) = table.text(key)? else { return Ok(None) };
    match of_name(&name) {
        Some(id) => Ok(Some(id)),
        None => Err(table.problem(&format!("{key}: this host knows no {name:?}; give the number"))),
    }
}

/// A name is a part of a URL and of a file name.
fn check_name(name: &str) -> Result<(), String> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if good {
        return Ok(());
    }
    Err(format!(
        "the name of a role must be 1 to {LONGEST_NAME} ASCII letters, digits, '.', '_' or '-', the first a letter or \
         digit"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shmcreds::Source;

    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:role/tenant";

    fn problem(text: &str) -> String {
        RolesFile::of(text).err().unwrap_or_else(|| panic!("it is taken: {text}"))
    }

    #[test]
    fn each_input_reaches_the_recipe() {
        let base = format!("[role.a]\nrole-arn = \"{ARN}\"\n");
        let recipe = |text: &str| {
            let file = RolesFile::of(text).unwrap_or_else(|problem| panic!("{problem}: {text}"));
            let role = &file.roles["a"];
            (role.inputs.recipe(&role.arn), role.clone())
        };
        let (plain, settings) = recipe(&base);
        for line in [
            "role-session-name = \"web\"",
            "duration-seconds = 1_800",
            "external-id = \"tenant-42\"",
            "policy = '{}'",
            "policy-arn = [\"arn:aws:iam::aws:policy/A\"]",
            "tag = [\"team=web\"]",
            "tag = { team = \"web\" }",
            "transitive-tag-key = \"team\"",
            "source-identity = \"alice\"",
            "provided-context = [\"arn:aws:iam::aws:contextProvider/IdentityCenter=assertion\"]",
            "sts-region = \"eu-central-1\"",
            "sts-regions = [\"eu-central-1\", \"eu-west-1\"]",
            "sts-endpoint-url = \"http://localhost\"",
            "profile = \"app\"",
        ] {
            let (recipe, changed) = recipe(&format!("{base}{line}\n"));
            assert_eq!(recipe.validate(), Ok(()), "{line}");
            assert_ne!(recipe.fingerprint(), plain.fingerprint(), "{line}");
            assert!(changed != settings, "{line}");
        }
        // These do not change whose credentials the role gives, but the role has to be made again.
        for line in [
            "ca-bundle = \"/ca.pem\"",
            "proxy = \"http://u:p@proxy\"",
            "connect-timeout = 1",
            "read-timeout = 2",
            "timeout = 3",
            "max-attempts = 4",
        ] {
            let (recipe, changed) = recipe(&format!("{base}{line}\n"));
            assert_eq!(recipe.fingerprint(), plain.fingerprint(), "{line}");
            assert!(changed != settings, "{line}");
        }
    }

    #[test]
    fn the_settings_of_the_pool_are_read() {
        let text = format!(
            "allow = [\"arn:aws:iam::*:role/tenant-*\"]\ncapacity = 20\ncalls-per-second = 7\n\
             token-directory = \"/run/tokens\"\n[role-arn]\nduration-seconds = 900\ntoken-file = \"/run/any\"\n\
             [role.a]\nrole-arn = \"{ARN}\"\n[role.b]\nrole-arn = \"{ARN}\"\ntoken-file = \"/b\"\n\
             token-owner = 7\ntoken-group = \"root\"\n"
        );
        let file = RolesFile::of(&text).unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!((file.capacity, file.calls_per_second), (Some(20), Some(7)));
        let fits = |arn: &str| allows(&file.allow, arn);
        assert!(fits("arn:aws:iam::1:role/tenant-9") && !fits(ARN));
        let place = |name: &str| file.roles[name].token.clone().unwrap();
        assert_eq!(
            place("a"),
            TokenPlace { path: "/run/tokens/a".into(), owner: None, group: None }
        );
        assert_eq!(place("b"), TokenPlace { path: "/b".into(), owner: Some(7), group: Some(0) });
        assert_eq!(file.by_arn_token.unwrap().path, Path::new("/run/any"));
    }

    #[test]
    fn mistakes_are_told_by_line_and_name() {
        let role = format!("[role.alpha]\nrole-arn = \"{ARN}\"\n");
        for (text, expected) in [
            (
                format!("{role}externel-id = \"hush\"\n"),
                "line 3: role.alpha: \"externel-id\" is no setting",
            ),
            (
                "\ncapasity = 7\n".to_owned(),
                "line 2: \"capasity\" is no setting; the settings here are allow, capacity",
            ),
            ("capacity = \"hush\"\n".to_owned(), "line 1: capacity must be a whole number"),
            ("capacity = -1\n".to_owned(), "line 1: capacity must be a whole number"),
            (format!("{role}external-id = 7\n"), "line 3: role.alpha: external-id must be a text"),
            (format!("{role}tag = [\"hush\"]\n"), "line 3: role.alpha: tag must be"),
            (format!("{role}tag = {{ a = 1 }}\n"), "line 3: role.alpha: tag must have texts"),
            (
                format!("{role}mfa-serial = \"hush\"\n"),
                "line 3: role.alpha: mfa-serial: a role of a pool",
            ),
            (
                "[role.alpha]\nexternal-id = \"hush\"\n".to_owned(),
                "line 1: role.alpha: role-arn is missing",
            ),
            (format!("{role}{role}"), "line 3: a setting, or a table, that is in the file already"),
            ("[role.alpha]\nhush\n".to_owned(), "line 2 is not TOML"),
            (
                "[role.\"../x\"]\nrole-arn = \"a\"\n".to_owned(),
                "line 1: role.../x: the name of a role must be",
            ),
            ("role = 7\n".to_owned(), "line 1: role must be a table"),
            ("[role]\nalpha = 7\n".to_owned(), "line 2: role.alpha must be a table"),
            ("allow = [\"hush-*\"]\n".to_owned(), "line 1: allow: \"hush-*\" is no pattern"),
            (
                "[role-arn]\nduration-seconds = 900\n".to_owned(),
                "line 1: role-arn: no role can be asked for by its ARN",
            ),
            (
                format!("{role}token-file = \"hush\"\n"),
                "line 1: role.alpha: token-file must be an absolute path",
            ),
            (
                format!("{role}token-owner = 7\n"),
                "line 1: role.alpha: token-owner and token-group need",
            ),
            (
                format!(
                    "{role}token-file = \"/a\"\n[role.b]\nrole-arn = \"a\"\ntoken-file = \"/a\"\n"
                ),
                "line 4: role.b: its token file is that of role.alpha",
            ),
        ] {
            let said = problem(&text);
            assert!(said.starts_with(expected), "{said} of {text}");
            assert!(!said.contains("hush") || said.contains("hush-*"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_file_or_a_problem(text in "([a-z=.\"\\[\\]{} \\n#'-]{0,40}|role|role-arn|allow|=|\\n){0,20}") {
            if let Err(problem) = RolesFile::of(&text) {
                prop_assert!(problem.starts_with("line "), "{problem}");
            }
        }
    }
}
