//! The setting that connects a session with a fleet.

use crate::{refresh::gate::Gate, source::Source};

#[cfg(feature = "fleet")]
impl super::SharedSessionBuilder {
    /// Connects the session with the other hosts of a fleet: they share a budget of calls of STS, and a set if they want.
    /// Each process that may refresh the session needs this setting. Processes that are forked inherit it with the source.
    pub fn fleet(mut self, fleet: crate::Fleet) -> Self {
        self.gate = Some(std::sync::Arc::new(fleet));
        self
    }
}

/// Checks the setting for the source.
///
/// # Errors
/// A sentence with the setting, the problem of its value, and the rule.
pub(super) fn check(gate: Option<&dyn Gate>, source: Option<&dyn Source>) -> Result<(), String> {
    let Some(gate) = gate else { return Ok(()) };
    let source = source.ok_or("fleet: it needs a source; add source(…)")?;
    if source.is_manual() {
        return Err(
            "fleet: only the program can ask a manual source; ask the fleet's store there".into()
        );
    }
    gate.validate(source)
}
