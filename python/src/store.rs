//! A shared session, as `Obtainer` in Python uses it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pyo3::prelude::*;
use shmcreds::{Election, Error, ErrorKind, Refresh, SetSnapshot, SharedSession, State};

use crate::{
    error::{Told, duration, raised, told},
    look::{Frozen, Look},
    opening::{beside, opened},
    recipe::Recipe,
    term::Term,
};

/// What `stand` gives.
#[derive(IntoPyObject)]
enum Outcome {
    Valid(Look),
    Elected(Term),
}

/// A session of the host. All objects of one name in a process share its state.
#[pyclass(frozen, weakref, module = "shmcreds._native")]
pub(crate) struct Store {
    name: String,
    /// None in a process that only reads.
    recipe: Option<Recipe>,
    /// Replaced when the windows change.
    session: Mutex<Arc<SharedSession>>,
    frozen: Frozen,
}

#[pymethods]
impl Store {
    /// Opens the session that the dict describes, or makes it where there is none.
    #[staticmethod]
    fn open(py: Python<'_>, recipe: Recipe, tuple_class: Bound<'_, PyAny>) -> PyResult<Self> {
        let session = opened(py, &recipe)?;
        Store::new(recipe.name.clone(), Some(recipe), session, tuple_class)
    }

    /// Opens a session that is there, to read it.
    #[staticmethod]
    fn attach(py: Python<'_>, name: String, tuple_class: Bound<'_, PyAny>) -> PyResult<Self> {
        let session = py.detach(|| SharedSession::attach(&name)).map_err(raised)?;
        Store::new(name, None, session, tuple_class)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Whether a process of its own refreshes the set.
    fn is_eager(&self) -> PyResult<bool> {
        Ok(self.session().status().map_err(raised)?.mode() == Refresh::Eager)
    }

    /// The process that refreshes now, or for good in an eager session.
    fn elected(&self) -> PyResult<Option<u32>> {
        let status = self.session().status().map_err(raised)?;
        Ok(status.lease_holder().map(|holder| holder.pid()))
    }

    /// The set if it is fresh. Neither waits nor starts anything.
    fn fresh(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.snapshot()? {
            Some(set) if set.state() == State::Fresh => self.frozen.of(py, &set).map(Some),
            _ => Ok(None),
        }
    }

    /// The newest set in any state.
    fn look(&self, py: Python<'_>) -> PyResult<Option<Look>> {
        self.snapshot()?.map(|set| self.frozen.look(py, &set)).transpose()
    }

    /// A valid set, a term, or None after so many seconds. No term where the library asks the source: it does so in the
    /// background, and goes on when this returns.
    fn stand(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<Outcome>> {
        let (session, limit) = (self.session(), duration(seconds));
        let election = match self.is_native() {
            true => py.detach(|| obtained(&session, limit)),
            false => py.detach(|| session.elect_within(limit)),
        };
        self.outcome(py, election)
    }

    /// As `stand`, for a set of a later generation.
    fn stand_after(
        &self,
        py: Python<'_>,
        generation: u64,
        seconds: f64,
    ) -> PyResult<Option<Outcome>> {
        let (session, limit) = (self.session(), duration(seconds));
        let election = match self.is_native() {
            true => py.detach(|| session.refresh_after(generation, limit).map(Election::Valid)),
            false => py.detach(|| session.elect_after(generation, limit)),
        };
        self.outcome(py, election)
    }

    /// As `stand`, for a set that is valid for `needed` seconds.
    fn stand_valid_for(
        &self,
        py: Python<'_>,
        needed: f64,
        seconds: f64,
    ) -> PyResult<Option<Outcome>> {
        let (session, needed, limit) = (self.session(), duration(needed), duration(seconds));
        let election = match self.is_native() {
            // It waits for its own call, on a thread, so that signals are handled.
            true => beside(py, move || session.credentials_valid_for(needed).map(Election::Valid))?,
            false => py.detach(|| session.elect_valid_for(needed, limit)),
        };
        self.outcome(py, election)
    }

    /// For how many seconds the newest set was valid when it was fetched.
    fn lifetime(&self) -> PyResult<Option<f64>> {
        Ok(self.snapshot()?.map(|set| set.lifetime().as_secs_f64()))
    }

    /// The newest failure while its back-off lasts: what was told, its number, seconds until the next attempt.
    fn back_off(&self) -> PyResult<Option<(Told, u64, f64)>> {
        let status = self.session().status().map_err(raised)?;
        let failed = status.failed();
        Ok(status.last_failure().and_then(|last| {
            let left = last.next_attempt_in().as_secs_f64();
            (left > 0.0).then(|| (told(last.failure()), failed, left))
        }))
    }

    /// Says that AWS refused the set with this key; true for the first who says so.
    fn reject(&self, py: Python<'_>, access_key: &str) -> PyResult<bool> {
        let session = self.session();
        py.detach(|| session.invalidate(access_key)).map_err(raised)
    }

    /// Calls of the source, and failures of it.
    fn counters(&self) -> PyResult<(u64, u64)> {
        let status = self.session().status().map_err(raised)?;
        Ok((status.source_calls(), status.failed()))
    }

    /// What `shmcreds status` shows.
    fn describe(&self) -> PyResult<String> {
        Ok(self.session().status().map_err(raised)?.to_string())
    }

    /// The windows of the sets that this process publishes from now on.
    #[pyo3(signature = (advisory, mandatory))]
    fn set_windows(
        &self,
        py: Python<'_>,
        advisory: Option<f64>,
        mandatory: Option<f64>,
    ) -> PyResult<()> {
        let Some(recipe) = &self.recipe else { return Ok(()) };
        if recipe.sealed {
            // Only its refresher publishes.
            return Ok(());
        }
        let builder = recipe.builder_with(advisory, mandatory);
        let session = py.detach(|| builder.attach()).map_err(raised)?;
        *self.lock() = Arc::new(session);
        Ok(())
    }

    /// Removes the name. Those who have the session keep it.
    fn unlink(&self) {
        self.session().unlink();
    }

    /// Gives the session up, at the end of the process. The last user removes the name.
    fn leave(&self, py: Python<'_>) {
        let session = self.session();
        py.detach(|| session.leave());
    }
}

impl Store {
    fn new(
        name: String,
        recipe: Option<Recipe>,
        session: SharedSession,
        tuple_class: Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let session = Mutex::new(Arc::new(session));
        Ok(Store { name, recipe, session, frozen: Frozen::new(tuple_class)? })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<SharedSession>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_native(&self) -> bool {
        self.recipe.as_ref().is_some_and(Recipe::is_native)
    }

    fn session(&self) -> Arc<SharedSession> {
        Arc::clone(&self.lock())
    }

    fn snapshot(&self) -> PyResult<Option<SetSnapshot>> {
        self.session().snapshot().map_err(raised)
    }

    fn outcome(
        &self,
        py: Python<'_>,
        election: Result<Election, Error>,
    ) -> PyResult<Option<Outcome>> {
        match election {
            Ok(Election::Elected(term)) => Ok(Some(Outcome::Elected(Term::new(term)))),
            Ok(Election::Valid(set)) => Ok(Some(Outcome::Valid(self.frozen.look(py, &set)?))),
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(None),
            Err(error) => Err(raised(error)),
        }
    }
}

/// A set to use now. A newer one may have come meanwhile.
fn obtained(session: &SharedSession, limit: Duration) -> Result<Election, Error> {
    loop {
        session.credentials_within(limit)?;
        if let Some(set) = session.snapshot()? {
            return Ok(Election::Valid(set));
        }
    }
}
