//! The call of a term: the program asks the source itself, in a process that was elected for it.

use tracing::{info, warn};

use super::{
    election::Elected,
    fetch::{self, Job},
    publish::{self, Basis},
};
use crate::{
    clock::Moment,
    error::{ErrorKind, Fault},
    segment::Counter,
    source::{Exchange, Fetched, SourceError, SourceErrorClass},
    sys::process_token::ProcessToken,
};

/// The call under way. Dropping it publishes that it ended without an answer.
///
/// A forked child inherits the value, but not the election: there it does nothing, also when it is dropped.
#[derive(Debug)]
pub(crate) struct TermCall {
    /// `None` when the outcome is published.
    elected: Option<Elected>,
    basis: Basis,
    began: Moment,
    /// Boxed, so that a term is about as small as the other outcomes of an election.
    job: Box<Job>,
    process: ProcessToken,
    pid: u32,
}

impl TermCall {
    /// Notes in the segment that the source is being asked.
    pub(crate) fn begin(elected: Elected, job: Job) -> Self {
        // Any thread of this process may end the call. So the mark is that of the process.
        elected.mark_process();
        let basis = Basis::of(&elected);
        elected.begin_attempt(basis.generation());
        elected.view().count(Counter::SourceCalls);
        let began = Moment::now(&job.clock);
        let (process, pid) = (ProcessToken::current(), std::process::id());
        TermCall { elected: Some(elected), basis, began, job: Box::new(job), process, pid }
    }

    /// The generation that the call is to replace.
    pub(crate) fn generation(&self) -> u64 {
        self.basis.generation()
    }

    /// When its lease ends, in nanoseconds since boot. 0 in a forked child.
    pub(crate) fn lease_end(&self) -> u64 {
        self.elected.as_ref().filter(|_| self.is_ours()).map_or(0, Elected::lease_end)
    }

    /// Publishes the set, and resigns.
    ///
    /// # Errors
    /// `TermOver` when nothing was published. Otherwise the set cannot be used: that was published as a failure.
    pub(crate) fn publish(mut self, fetched: Fetched) -> Result<(), Fault> {
        let elected = self.end()?;
        let answered = Moment::now(&self.job.clock);
        let fetched = fetched.within(Exchange { asked: self.began.clone(), answered });
        match fetch::conclude(&elected, &self.job, self.basis, Ok(fetched)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(over("another process published a set first")),
            Err(failure) => {
                let fault = Fault::new(failure.kind(), failure.to_string());
                Err(fault.caused_by(failure))
            }
        }
    }

    /// Publishes a failure, and resigns.
    ///
    /// # Errors
    /// `TermOver` when nothing was published; `System` when it could not be written.
    pub(crate) fn fail(mut self, failure: &SourceError) -> Result<(), Fault> {
        let elected = self.end()?;
        self.tell(&elected, failure)
    }

    fn tell(&self, elected: &Elected, failure: &SourceError) -> Result<(), Fault> {
        // Before the failure is seen, as in a fetch: its outcome is known.
        elected.end_attempt();
        let session = self.job.session.as_str();
        warn!(session, class = %failure.class(), %failure, "the refresh failed");
        publish::failure(elected, self.basis, failure, &self.job.clock)
    }

    /// Takes the election out, if this process has it still.
    fn end(&mut self) -> Result<Elected, Fault> {
        let Some(elected) = self.elected.take() else { unreachable!("a call ends once") };
        if !self.is_ours() {
            // The election is that of the parent process. A drop would resign in its name.
            std::mem::forget(elected);
            let pid = self.pid;
            return Err(over(&format!("it belongs to process {pid}, which forked this one")));
        }
        let left = elected.lease_end().saturating_sub(self.job.clock.boot());
        if left == 0 || !elected.holds() {
            // The note of the attempt stays: the process that is elected next publishes that this one hung.
            let (lease, session) = (self.job.recipe.lease(), self.job.session.as_str());
            info!(session, "a term ended without an answer");
            return Err(over(&format!(
                "its lease of {lease:?} has ended; elect again, and give the source a longer time-out if its calls \
                 take so long"
            )));
        }
        Ok(elected)
    }

    fn is_ours(&self) -> bool {
        self.process == ProcessToken::current()
    }
}

impl Drop for TermCall {
    fn drop(&mut self) {
        if self.elected.is_none() {
            return;
        }
        let Ok(elected) = self.end() else { return };
        let text = "the call of the source ended without an answer";
        let failure = SourceError::new(SourceErrorClass::Transient, text);
        if let Err(fault) = self.tell(&elected, &failure) {
            let session = self.job.session.as_str();
            warn!(session, "could not publish the failure: {}", fault.message);
        }
    }
}

fn over(why: &str) -> Fault {
    Fault::new(ErrorKind::TermOver, format!("this term is over: {why}"))
}
