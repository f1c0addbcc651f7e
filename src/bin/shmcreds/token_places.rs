//! Where the tables of the roles file say that their tokens belong.

use std::{collections::BTreeMap, path::PathBuf};

use nix::unistd::{Group, User};

use crate::{
    token::{self, TokenPlace},
    toml_table::Reading,
};

/// Where tokens belong.
pub(crate) struct Places {
    directory: Option<PathBuf>,
    /// The tables, by their token files.
    taken: BTreeMap<PathBuf, String>,
}

impl Places {
    pub(crate) fn new(directory: Option<PathBuf>) -> Self {
        Places { directory, taken: BTreeMap::new() }
    }

    /// That of the table `label`: the file of the name `default` in the token directory, if the table says nothing else.
    pub(crate) fn of(
        &mut self,
        table: &mut Reading<'_>,
        label: &str,
        default: &str,
    ) -> Result<Option<TokenPlace>, String> {
        let path = table.text("token-file")?.map(PathBuf::from);
        let owner =
            id(table, "token-owner", |name| Some(User::from_name(name).ok()??.uid.as_raw()))?;
        let group =
            id(table, "token-group", |name| Some(Group::from_name(name).ok()??.gid.as_raw()))?;
        let default = || Some(self.directory.as_ref()?.join(default));
        let Some(path) = path.or_else(default) else {
            return match owner.or(group) {
                Some(_) => Err(table.problem(
                    "token-owner and token-group need a token-file, or a token-directory",
                )),
                None => Ok(None),
            };
        };
        if !token::is_absolute(&path) {
            return Err(table.problem("token-file must be an absolute path of a file"));
        }
        if let Some(other) = self.taken.insert(path.clone(), label.to_owned()) {
            let text =
                format!("its token file is that of {other}; each table needs a file of its own");
            return Err(table.problem(&text));
        }
        Ok(Some(TokenPlace { path, owner, group }))
    }
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
