//! Tables of roles that clients ask for by their ARN: `[role-arn]`, with one token for all that `allow` at the top permits, and
//! `[grant.NAME]`, each with patterns and a token of its own.

use crate::{
    pattern, role_inputs::RoleInputs, token::TokenPlace, token_places::Places, toml_table::Reading,
};

/// The table whose token is good for all roles that `allow` at the top of the file permits.
pub(crate) const SHARED: &str = "role-arn";
/// What the names of the other tables begin with.
pub(crate) const GRANT: &str = "grant.";
/// No ARN of a role is longer.
const LONGEST_PATTERN: usize = 2048;

/// What one token is good for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ArnTable {
    pub(crate) allow: Vec<String>,
    /// The inputs of all these roles.
    pub(crate) inputs: RoleInputs,
    pub(crate) token: Option<TokenPlace>,
    /// The names of tables whose roles it may give out, too. They may have wildcards.
    pub(crate) may_overlap: Vec<String>,
    /// Where it is in the file.
    pub(crate) line: usize,
}

impl ArnTable {
    /// `[role-arn]`, for the patterns at the top of the file.
    pub(crate) fn shared(
        table: &mut Reading<'_>,
        allow: Vec<String>,
        places: &mut Places,
    ) -> Result<Self, String> {
        if allow.is_empty() {
            return Err(table.problem(
                "no role can be asked for by its ARN; add patterns at the top of the file: allow = [\"arn:…\"]",
            ));
        }
        table.refuse("allow", "its patterns are at the top of the file, before all tables")?;
        // Its token is for a program that acts for all, which is said by naming this table.
        ArnTable::read(table, (allow, vec!["*".to_owned()]), SHARED, places)
    }

    /// `[grant.NAME]`.
    pub(crate) fn grant(
        table: &mut Reading<'_>,
        label: &str,
        places: &mut Places,
    ) -> Result<Self, String> {
        let allow = patterns(table)?;
        if allow.is_empty() {
            return Err(table.problem(
                "allow is missing: the patterns of the roles that its token is good for",
            ));
        }
        let may_overlap = table.texts("may-overlap")?;
        ArnTable::read(table, (allow, may_overlap), label, places)
    }

    fn read(
        table: &mut Reading<'_>,
        (allow, may_overlap): (Vec<String>, Vec<String>),
        label: &str,
        places: &mut Places,
    ) -> Result<Self, String> {
        let line = table.line();
        let inputs = RoleInputs::read(table)?;
        let token = places.of(table, label, label)?;
        Ok(ArnTable { allow, inputs, token, may_overlap, line })
    }

    /// Whether one of the patterns fits the ARN of a role.
    pub(crate) fn allows(&self, arn: &str) -> bool {
        self.allow.iter().any(|one| pattern::fits(one, arn))
    }
}

/// The patterns of a table.
pub(crate) fn patterns(table: &mut Reading<'_>) -> Result<Vec<String>, String> {
    let patterns = table.texts("allow")?;
    for one in &patterns {
        pattern::check(one).map_err(|problem| table.problem(&problem))?;
        if one.len() > LONGEST_PATTERN {
            let text = format!(
                "allow: a pattern has {} characters, must have at most {LONGEST_PATTERN}",
                one.len()
            );
            return Err(table.problem(&text));
        }
    }
    Ok(patterns)
}
