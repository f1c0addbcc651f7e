//! What a refresher of its own program gets from the process that starts it: in a memory file, which only the two have.
//! It holds secrets. So it is in no argument and no variable.

use std::{
    convert::Infallible,
    ffi::OsString,
    io::{PipeWriter, Read, Write, stdin, stdout},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::process_session::ProcessSession;
use crate::{
    clock::Clock,
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::{
        dedicated::{self, passed},
        fetch::{Job, Recipe},
        gate::Gate,
        policy::Windows,
    },
    segment::Segment,
    source::{self, PortableSource},
    sys::{descriptor::Inode, lock::LockFile, memory_file, object::Object, spawn},
};

/// The program and the library must be of the same version: they share more than the layout of the segment.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize, Deserialize)]
struct Handover {
    version: String,
    name: String,
    directory: Option<String>,
    /// Device and inode of each.
    segment: (u64, u64),
    locks: (u64, u64),
    advisory: Option<Duration>,
    mandatory: Option<Duration>,
    spread: Option<f64>,
    first_call: u64,
    source: PortableSource,
    /// The gate, if there is one. A program without the feature that it needs does not start.
    gate: Option<serde_json::Value>,
    /// Of the process that starts the program: the source reads it.
    environment: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a program needs to refresh the session; `None` if its source cannot be handed over.
pub(super) fn of(shared: &ProcessSession, job: &Job) -> Option<Result<Zeroizing<Vec<u8>>, Fault>> {
    let source = job.recipe.source.portable()?;
    let gate = match &job.recipe.gate {
        Some(gate) => Some(gate.portable()?),
        None => None,
    };
    Some(write(shared, job, source, gate))
}

fn write(
    shared: &ProcessSession,
    job: &Job,
    source: PortableSource,
    gate: Option<serde_json::Value>,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // What consumers keep is in the segment.
    let Windows { advisory, mandatory, spread, keep: _ } = job.recipe.windows;
    let variables = std::env::vars_os();
    let handover = Handover {
        version: VERSION.to_owned(),
        name: shared.name.as_str().to_owned(),
        directory: shared.name.directory().map(|directory| directory.to_string()),
        segment: Inode::of_descriptor(shared.segment.fds()?[0])?.parts(),
        locks: shared.election_lock.locks().inode().parts(),
        advisory,
        mandatory,
        spread,
        first_call: job.first_call,
        source,
        gate,
        environment: variables.map(|(name, value)| (name.into_vec(), value.into_vec())).collect(),
    };
    source::to_json(&handover).map_err(|text| Fault::new(ErrorKind::System, text))
}

/// Is the refresher of a session, in a program that a creator started for that. It does not return.
///
/// # Errors
/// A sentence, when nothing was handed over, or the refresher cannot start.
#[doc(hidden)]
pub fn run_refresher_program() -> Result<Infallible, String> {
    let mut text = Zeroizing::new(Vec::new());
    let by_hand = "only the library starts this command: it hands over what to refresh";
    stdin().read_to_end(&mut text).map_err(|_| by_hand)?;
    let handover: Handover = serde_json::from_slice(&text).map_err(|_| {
        // The parser's error may quote a secret.
        match text.is_empty() {
            true => by_hand.to_owned(),
            false => "what was handed over is of another version; use the program of the same version as the library".into(),
        }
    })?;
    drop(text);
    let started = report().and_then(|report| handover.run(report));
    let Err(fault) = started;
    // The creator waits for this. It may have gone.
    let _ = stdout().write_all(fault.message.as_bytes()).and_then(|()| stdout().flush());
    Err(fault.message)
}

/// The pipe to the creator, under a number that is no standard stream.
fn report() -> Result<PipeWriter, Fault> {
    let copy: OwnedFd = stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| Fault::system("duplicating the standard output", e))?;
    Ok(PipeWriter::from(copy))
}

/// The gate again.
#[cfg(feature = "fleet")]
fn gate(settings: serde_json::Value) -> Result<Arc<dyn Gate>, String> {
    match crate::fleet::Fleet::again(settings) {
        Some(fleet) => Ok(Arc::new(fleet)),
        None => Err("the settings of the fleet are of another version".into()),
    }
}

#[cfg(not(feature = "fleet"))]
fn gate(_: serde_json::Value) -> Result<Arc<dyn Gate>, String> {
    Err("the session belongs to a fleet, and the program was built without the feature `fleet`; build it with it".into())
}

impl Handover {
    fn run(self, report: PipeWriter) -> Result<Infallible, Fault> {
        let other = |text: String| Fault::new(ErrorKind::System, text);
        if self.version != VERSION {
            return Err(other(format!(
                "the program is of version {VERSION}, and the library of version {}; use the program of the same version",
                self.version
            )));
        }
        let variables = self.environment.into_iter();
        spawn::set_environment(
            variables.map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value))),
        );
        let passed = |number, what: &str, (device, inode)| {
            memory_file::copy_of(number, Inode::from_parts(device, inode))
                .ok_or_else(|| other(format!("{what} was not handed over")))
        };
        let segment = passed(passed::SEGMENT, "the segment", self.segment)?;
        let locks = passed(passed::LOCKS, "the lock file", self.locks)?;
        let name = SessionName::new(&self.name)?;
        let name = match self.directory {
            Some(directory) => name.in_directory(&Arc::from(directory)),
            None => name,
        };
        let segment = Segment::inherited(segment, None)?;
        let segment = match name.directory() {
            Some(_) => segment.with_name(name.segment()),
            None => segment,
        };
        let locks = LockFile::named(Object::inherited("the lock file", locks)?, &name.lock());
        let source = source::remade(self.source).map_err(other)?;
        if source.fingerprint() != segment.header.fingerprint {
            return Err(other(
                "the source reads another environment there than in the process that started it"
                    .into(),
            ));
        }
        let gate = self.gate.map(gate).transpose().map_err(other)?;
        let keep = segment.header.kept();
        let (advisory, mandatory, spread) = (self.advisory, self.mandatory, self.spread);
        let windows = Windows { advisory, mandatory, spread, keep };
        let job = Job {
            session: self.name,
            eager: segment.header.eager,
            recipe: Recipe { source, windows, gate },
            clock: Clock::default(),
            first_call: self.first_call,
            not_before: 0,
            service: None,
        };
        dedicated::run_program(&name, &segment, &locks, job, report)
    }
}
