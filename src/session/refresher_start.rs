//! How the dedicated refresher is started: forked from the creator, or as a program of its own.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    clock::Clock,
    error::{ErrorKind, Fault},
    refresh::fetch::Recipe,
    sys::process,
};

/// The program that is looked for in `PATH`.
const PROGRAM: &str = "shmcreds";

/// How the refresher is started.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// It is forked from this process, which has one thread.
    Fork,
    /// This program is executed.
    Program(PathBuf),
}

impl Start {
    /// The program that is `given`, if the source can be handed over. Else a fork, in a process with one thread. With
    /// several threads, the program that is found in `PATH`.
    ///
    /// # Errors
    /// `Misconfigured` for a program that cannot be executed. `Multithreaded` when neither is possible.
    pub(super) fn choose(
        given: Option<&Path>,
        recipe: &Recipe,
        clock: Option<&Clock>,
        sealed: bool,
    ) -> Result<Self, Fault> {
        let obstacle = obstacle(recipe, clock, sealed);
        if let (Some(path), None) = (given, obstacle) {
            check(path)?;
            return Ok(Start::Program(path.to_owned()));
        }
        let threads = threads()?;
        if threads == 1 {
            return Ok(Start::Fork);
        }
        let why = match (obstacle, found()) {
            (None, Some(path)) => return Ok(Start::Program(path)),
            (None, None) => {
                "and there is no program `shmcreds` in PATH to start in its place; install it, or name it by \
                 refresher_program"
            }
            (Some(obstacle), _) => obstacle,
        };
        let text = format!(
            "an eager session forks its refresher, which is not safe in a process with {threads} threads, {why}; or \
             create the session before anything starts threads, use Refresh::Deferred, or call run_refresher in a \
             separate process"
        );
        Err(Fault::new(ErrorKind::Multithreaded, text))
    }
}

impl Start {
    /// Checks that this process can fork the refresher of `what`.
    ///
    /// # Errors
    /// `Multithreaded`.
    pub(super) fn check_fork(what: &str) -> Result<(), Fault> {
        let threads = threads()?;
        if threads == 1 {
            return Ok(());
        }
        let text = format!(
            "{what} forks its refresher, which is not safe in a process with {threads} threads; create it before \
             anything starts threads, or make a deferred one and call run_refresher in a separate process"
        );
        Err(Fault::new(ErrorKind::Multithreaded, text))
    }
}

fn threads() -> Result<usize, Fault> {
    process::threads()
        .map_err(|e| Fault::system("counting the threads of this process (/proc/self/task)", e))
}

/// Why no other program can be the refresher.
fn obstacle(recipe: &Recipe, clock: Option<&Clock>, sealed: bool) -> Option<&'static str> {
    if sealed {
        return Some("and in a sealed session only a forked one can write");
    }
    if !matches!(clock, None | Some(Clock::System)) {
        return Some("and another program does not have this clock");
    }
    if recipe.gate.as_ref().is_some_and(|gate| gate.portable().is_none()) {
        return Some(
            "and the store of the fleet has code of this program, which no other program can run",
        );
    }
    let portable = recipe.source.portable().is_some();
    (!portable).then_some("and the source has code of this program, which no other program can run")
}

fn check(path: &Path) -> Result<(), Fault> {
    let problem = if !path.is_absolute() {
        "is not an absolute path"
    } else if !path.exists() {
        "does not exist"
    } else if !is_program(path) {
        "is not a file that can be executed"
    } else {
        return Ok(());
    };
    let text = format!(
        "refresher_program: {path:?} {problem}; give the path of the program `shmcreds` of this version, or leave it out"
    );
    Err(Fault::new(ErrorKind::Misconfigured, text))
}

fn found() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let places = env::split_paths(&path).filter(|folder| folder.is_absolute());
    places.map(|folder| folder.join(PROGRAM)).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
