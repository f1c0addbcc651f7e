//! The roles file: which roles a pool has for the clients of the endpoint, and where their tokens are.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use shmcreds::regular_file;

use crate::{
    arn_table::{self, ArnTable, GRANT, SHARED},
    command_error::{CommandError, DATA, NO_INPUT},
    config,
    errno::told,
    overlaps,
    role_inputs::RoleInputs,
    token::TokenPlace,
    token_places::Places,
    toml_table::{self, Lines, Reading},
};

/// 10,000 roles need less.
const LONGEST: u64 = 16 * 1024 * 1024;
const LONGEST_NAME: usize = 64;

/// What the file says.
#[derive(Default)]
pub(crate) struct RolesFile {
    pub(crate) capacity: Option<usize>,
    pub(crate) calls_per_second: Option<u32>,
    /// The roles, by name.
    pub(crate) roles: BTreeMap<String, NamedRole>,
    /// The tables of roles that may be asked for by their ARN, by their names in the file.
    pub(crate) by_arn: BTreeMap<String, ArnTable>,
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
        RolesFile::read_by(path, Ok)
    }

    /// The same after [`read`](Self::read). An empty file is an error: a program that writes it has failed, or is not ready.
    pub(crate) fn read_again(path: &Path) -> Result<Self, CommandError> {
        RolesFile::read_by(path, |text| match text.trim().is_empty() {
            true => Err(io::Error::other("it is empty")),
            false => Ok(text),
        })
    }

    fn read_by(
        path: &Path,
        check: impl Fn(String) -> io::Result<String>,
    ) -> Result<Self, CommandError> {
        let read = regular_file(path, LONGEST).and_then(|bytes| config::text(&bytes));
        let text = read.and_then(check).map_err(|error| {
            CommandError::new(NO_INPUT, format!("--roles {}: {}", path.display(), told(&error)))
        })?;
        RolesFile::of(&text)
            .map_err(|problem| CommandError::new(DATA, format!("{}: {problem}", path.display())))
    }

    fn of(text: &str) -> Result<Self, String> {
        let (parsed, lines) = (toml_table::parse(text)?, Lines::of(text));
        let mut top = Reading::new(&lines, "", parsed.get_ref());
        let shared = arn_table::patterns(&mut top)?;
        let (capacity, calls_per_second) =
            (top.number("capacity")?, top.number("calls-per-second")?);
        let directory = top.text("token-directory")?.map(PathBuf::from);
        if directory.as_deref().is_some_and(|path| !path.is_absolute()) {
            return Err(top.problem("token-directory must be an absolute path"));
        }
        let (by_arn, named, grants) =
            (top.table(SHARED, SHARED)?, tables(&mut top, "role")?, tables(&mut top, "grant")?);
        if by_arn.is_none() && !shared.is_empty() {
            return Err(top.problem(
                "allow: no table says which token is good for these roles; add [role-arn] for one token that is good \
                 for all of them, or move the patterns to tables [grant.NAME], each with a token of its own",
            ));
        }
        top.finish()?;
        let mut file = RolesFile { capacity, calls_per_second, ..RolesFile::default() };
        let mut places = Places::new(directory);
        if let Some(mut table) = by_arn {
            let table_of = ArnTable::shared(&mut table, shared, &mut places)?;
            table.finish()?;
            file.by_arn.insert(SHARED.to_owned(), table_of);
        }
        for (name, mut table) in named {
            let place = places.of(&mut table, &format!("role.{name}"), &name)?;
            file.roles.insert(name, role(&mut table, place)?);
            table.finish()?;
        }
        for (name, mut table) in grants {
            let label = format!("{GRANT}{name}");
            let table_of = ArnTable::grant(&mut table, &label, &mut places)?;
            file.by_arn.insert(label, table_of);
            table.finish()?;
        }
        overlaps::check(&file)?;
        Ok(file)
    }

    /// What no log may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let by_arn = self.by_arn.values().map(|table| &table.inputs);
        let inputs = self.roles.values().map(|role| &role.inputs).chain(by_arn);
        inputs.flat_map(RoleInputs::secrets).map(str::to_owned).collect()
    }
}

/// The tables `[NAME.*]`, by the rest of their names.
fn tables<'t>(
    top: &mut Reading<'t>,
    name: &'static str,
) -> Result<Vec<(String, Reading<'t>)>, String> {
    let Some(all) = top.table(name, name)? else { return Ok(Vec::new()) };
    let tables = all.tables(|one| format!("{name}.{one}"))?;
    let checked = tables
        .iter()
        .try_for_each(|(one, table)| check_name(one).map_err(|problem| table.problem(&problem)));
    checked.map(|()| tables)
}

fn role(table: &mut Reading<'_>, token: Option<TokenPlace>) -> Result<NamedRole, String> {
    let arn = table.text("role-arn")?;
    let arn = arn.ok_or_else(|| table.problem("role-arn is missing: the ARN of the role"))?;
    Ok(NamedRole { arn, inputs: RoleInputs::read(table)?, token })
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
        "the name of a table must be 1 to {LONGEST_NAME} ASCII letters, digits, '.', '_' or '-', the first a letter or \
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
        let shared = &file.by_arn[SHARED];
        assert!(shared.allows("arn:aws:iam::1:role/tenant-9") && !shared.allows(ARN));
        let place = |name: &str| file.roles[name].token.clone().unwrap();
        assert_eq!(
            place("a"),
            TokenPlace { path: "/run/tokens/a".into(), owner: None, group: None }
        );
        assert_eq!(place("b"), TokenPlace { path: "/b".into(), owner: Some(7), group: Some(0) });
        assert_eq!(shared.token.as_ref().unwrap().path, Path::new("/run/any"));
    }

    fn grants(lines: &[&str]) -> Result<RolesFile, String> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        RolesFile::of(&text.replace("ROLE/", "arn:aws:iam::111122223333:role/"))
    }

    #[test]
    fn a_grant_has_patterns_and_a_token_of_its_own() {
        let file = grants(&[
            "token-directory = \"/run/tokens\"",
            "[grant.alpha]",
            "allow = \"ROLE/alpha-*\"",
            "external-id = \"id-of-alpha\"",
            "[grant.beta]",
            "allow = [\"ROLE/beta-*\", \"ROLE/b\"]",
            "token-file = \"/b\"",
        ]);
        let file = file.unwrap_or_else(|problem| panic!("{problem}"));
        let place = |label: &str| file.by_arn[label].token.clone().unwrap().path;
        assert_eq!(place("grant.alpha"), Path::new("/run/tokens/grant.alpha"));
        assert_eq!(place("grant.beta"), Path::new("/b"));
        let allows = |label: &str, role: &str| {
            file.by_arn[label].allows(&format!("arn:aws:iam::111122223333:role/{role}"))
        };
        assert!(allows("grant.alpha", "alpha-7") && allows("grant.beta", "b"));
        assert!(!allows("grant.alpha", "beta-7") && !allows("grant.beta", "alpha-7"));
        assert_eq!(file.secrets(), ["id-of-alpha"]);
        assert!(!file.by_arn.contains_key(SHARED), "nobody has asked for a token for all");
    }

    #[test]
    fn a_token_that_is_good_for_others_is_refused() {
        let alpha = ["[grant.alpha]", "allow = \"ROLE/tenant-1*\""];
        let of = |rest: &[&str]| grants(&[&alpha[..], rest].concat());
        let beta = ["[grant.beta]", "allow = \"ROLE/tenant-10-*\""];
        let problem = of(&beta).err().unwrap();
        assert!(
            problem.starts_with("line 3: grant.alpha and grant.beta: one role fits both"),
            "{problem}"
        );
        assert!(problem.contains("may-overlap = [\"grant.beta\"] to [grant.alpha]"), "{problem}");
        let role = ["[role.beta]", "role-arn = \"ROLE/tenant-10\""];
        let problem = of(&role).err().unwrap();
        assert!(
            problem.starts_with("line 1: grant.alpha: ")
                && problem.contains("fits the ARN of role.beta"),
            "{problem}"
        );
        // Another role, and the role of the same tenant.
        for rest in [
            &["[grant.beta]", "allow = \"ROLE/tenant-2*\""],
            &["[role.beta]", "role-arn = \"ROLE/tenant-20\""],
            &["[role.alpha]", "role-arn = \"ROLE/tenant-10\""],
        ] {
            assert!(of(rest).is_ok(), "{rest:?}");
        }
        // It is said on purpose.
        for said in ["\"grant.beta\"", "[\"grant.*\", \"role.beta\"]", "\"*\""] {
            let said = format!("may-overlap = {said}");
            assert!(grants(&[&[alpha[0], alpha[1], &said][..], &beta].concat()).is_ok(), "{said}");
        }
        let from_beta = [&beta[..], &["may-overlap = \"grant.alpha\""]].concat();
        assert!(of(&from_beta).is_ok());
        let other = [&beta[..], &["may-overlap = \"grant.gamma\""]].concat();
        assert!(of(&other).is_err());
        let shared = ["allow = \"ROLE/*\"", "[role-arn]", alpha[0], alpha[1]];
        assert!(grants(&shared).is_ok(), "its token is for all that was asked for by name");
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
                "line 1: role.../x: the name of a table must be",
            ),
            ("role = 7\n".to_owned(), "line 1: role must be a table"),
            ("[role]\nalpha = 7\n".to_owned(), "line 2: role.alpha must be a table"),
            ("allow = [\"hush-*\"]\n".to_owned(), "line 1: allow: \"hush-*\" is no pattern"),
            (
                "[role-arn]\nduration-seconds = 900\n".to_owned(),
                "line 1: role-arn: no role can be asked for by its ARN",
            ),
            (
                "allow = [\"arn:aws:iam::*:role/a\"]\n".to_owned(),
                "line 1: allow: no table says which token is good for these roles",
            ),
            (
                "allow = \"arn:aws:iam::*:role/a\"\n[role-arn]\nallow = \"hush\"\n".to_owned(),
                "line 3: role-arn: allow: its patterns are at the top",
            ),
            ("[grant.a]\nduration-seconds = 900\n".to_owned(), "line 1: grant.a: allow is missing"),
            (
                "[grant.a]\nallow = [\"hush-*\"]\n".to_owned(),
                "line 1: grant.a: allow: \"hush-*\" is no",
            ),
            ("[grant.a]\nallow = 7\n".to_owned(), "line 2: grant.a: allow must be a list"),
            (
                format!("[grant.a]\nallow = \"arn:aws:iam::*:role/{}\"\n", "a".repeat(2050)),
                "line 1: grant.a: allow: a pattern has 2070 characters, must have at most 2048",
            ),
            (
                "[grant.\"a/b\"]\nallow = []\n".to_owned(),
                "line 1: grant.a/b: the name of a table must be",
            ),
            (
                format!("[grant.a]\nallow = \"arn:aws:iam::*:role/a\"\nrole-arn = \"{ARN}\"\n"),
                "line 3: grant.a: \"role-arn\" is no setting",
            ),
            (
                format!(
                    "token-directory = \"/t\"\n[role.\"grant.a\"]\nrole-arn = \"{ARN}\"\n[grant.a]\nallow = \"arn:aws:iam::*:role/a\"\n"
                ),
                "line 4: grant.a: its token file is that of role.grant.a",
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

    /// The place of a value is not searched from the top of the file each time: that took a minute here.
    #[test]
    fn many_roles_are_read() {
        let role = |number| format!("[role.r{number}]\nrole-arn = \"{ARN}\"\n");
        let text: String = (0..2_000).map(role).collect();
        assert_eq!(RolesFile::of(&text).map(|file| file.roles.len()), Ok(2_000));
        let problem = problem(&format!("{text}hush = 1\n"));
        assert!(problem.starts_with("line 4001: role.r1999: \"hush\""), "{problem}");
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
