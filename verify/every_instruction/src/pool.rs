//! A pool of roles, in which a process is killed while it changes the pool.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use clap::ValueEnum;
use shmcreds::{
    AssumeRole, Provider, RolesStatus, SharedRoles,
    testing::{LocalSts, is_set_of},
};

use crate::{
    code::Code,
    processes::Reporter,
    run::{Run, Stage},
    tracee::Tracee,
    trials::Outcome,
};

/// The entries of the pool.
const CAPACITY: usize = 4;
/// Those that have sets before the change.
const KNOWN: usize = 2;
/// The role that gets or loses its entry.
const CHANGED: [usize; 3] = [KNOWN, 1, KNOWN];
/// More roles than there are entries. After the death each gets its set.
const ALL: usize = 8;
/// How soon another process has done each piece of its work. A call of the embedded STS is a part of it.
const PROMISE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(40);

/// What changes the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// A role gets an entry.
    Insert,
    /// A role loses its entry, with its set.
    Evict,
    /// A role gets an entry and its first set.
    Fetch,
}

/// What all trials share: the embedded STS.
pub struct Pools {
    sts: LocalSts,
}

/// A pool with the sets of some roles.
struct PoolScene<'a> {
    pools: &'a Pools,
    act: Act,
    roles: SharedRoles,
    /// The access key ids of the first roles.
    ids: Vec<String>,
}

impl Pools {
    pub fn new() -> Result<Self, String> {
        Ok(Pools { sts: LocalSts::fork().map_err(|error| error.to_string())? })
    }

    pub fn record(&self, code: &Code, act: Act) -> Result<Run, String> {
        let scene = self.scene(act)?;
        let run = Run::of(code, &scene)?;
        scene.end()?;
        Ok(run)
    }

    /// Kills the process at a point of `run`. Gives whether the change was made, and the slowest work of others.
    pub fn kill(&self, act: Act, run: &Run, index: usize) -> Result<(Outcome, Duration), String> {
        let scene = self.scene(act)?;
        let mut victim = scene.victim()?;
        if !victim.run_to(run.point(index))? {
            return Ok((Outcome::Missed, Duration::ZERO));
        }
        victim.kill()?;
        let outcome = if scene.is_changed()? { Outcome::New } else { Outcome::Old };
        let slowest = scene.another()?;
        let status = scene.status()?;
        if status.entries().len() != CAPACITY {
            return Err(format!("{} entries of {CAPACITY} are left", status.entries().len()));
        }
        scene.end()?;
        Ok((outcome, slowest))
    }

    fn scene(&self, act: Act) -> Result<PoolScene<'_>, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = Provider::new("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "base")
        });
        let roles =
            SharedRoles::builder(format!("every-instruction-pool-{}-{number}", std::process::id()))
                .base_source(base)
                .allow("arn:aws:iam::*:role/tenant-*")
                .capacity(CAPACITY)
                .calls_per_second(100_000)
                .create()
                .map_err(|error| error.to_string())?;
        let ids = (0..KNOWN).map(|number| self.read(&roles, number)).collect::<Result<_, _>>()?;
        Ok(PoolScene { pools: self, act, roles, ids })
    }

    fn recipe(&self, number: usize) -> AssumeRole {
        AssumeRole::new(arn_of(number))
            .session_name("test")
            .external_id(id_of(number))
            .region("us-east-1")
            .endpoint_url(self.sts.url())
    }

    /// The access key id of the role's set, which is whole, and its own.
    fn read(&self, roles: &SharedRoles, number: usize) -> Result<String, String> {
        let role = roles.role(self.recipe(number)).map_err(|error| error.to_string())?;
        let set = role.credentials().map_err(|error| error.to_string())?;
        let (arn, id) = (arn_of(number), id_of(number));
        let inputs = [("RoleArn", &*arn), ("RoleSessionName", "test"), ("ExternalId", &*id)];
        match is_set_of(&set, &inputs) {
            true => Ok(set.access_key_id().to_owned()),
            false => Err(format!("a foreign or torn set for tenant {number}")),
        }
    }
}

fn arn_of(number: usize) -> String {
    format!("arn:aws:iam::123456789012:role/tenant-{number}")
}

fn id_of(number: usize) -> String {
    format!("tenant-{number}")
}

impl PoolScene<'_> {
    fn changed(&self) -> usize {
        CHANGED[self.act as usize]
    }

    fn status(&self) -> Result<RolesStatus, String> {
        self.roles.status().map_err(|error| error.to_string())
    }

    /// Whether the change was made.
    fn is_changed(&self) -> Result<bool, String> {
        let status = self.status()?;
        Ok(match self.act {
            Act::Insert => status.entries().len() > KNOWN,
            Act::Evict => status.entries().len() < KNOWN,
            Act::Fetch => status.entries().iter().filter(|e| e.status().generation() > 0).count() > KNOWN,
        })
    }

    /// Another process, which reads the roles that were there, the one that was being changed, and then more roles than
    /// there are entries. Gives the time of its slowest read.
    fn another(&self) -> Result<Duration, String> {
        let reporter = Reporter::start(|| {
            let roles = SharedRoles::attach(self.roles.name()).map_err(|error| error.to_string())?;
            let mut slowest = Duration::ZERO;
            let mut read = |number: usize| {
                let began = Instant::now();
                let id = self.pools.read(&roles, number)?;
                slowest = slowest.max(began.elapsed());
                Ok::<_, String>(id)
            };
            for (number, before) in self.ids.iter().enumerate() {
                let id = read(number)?;
                if self.changed() != number && id != *before {
                    return Err(format!("the set of tenant {number} is lost"));
                }
            }
            (0..ALL).try_for_each(|number| read(number).map(drop))?;
            Ok(slowest.as_micros().to_string())
        })?;
        let said = reporter.finish(PATIENCE)?;
        let micros = said.parse().map_err(|_| format!("a process says {said:?}"))?;
        let slowest = Duration::from_micros(micros);
        match slowest > PROMISE {
            true => Err(format!("the next process needed {slowest:?} for a set")),
            false => Ok(slowest),
        }
    }

    /// Ends the pool: nothing of it is left.
    fn end(self) -> Result<(), String> {
        let path = self.path();
        drop(self.roles);
        let left = [path.clone(), path + "@lock"]
            .into_iter()
            .find(|path| fs::exists(path).unwrap_or(true));
        left.map_or(Ok(()), |path| Err(format!("{path} is left")))
    }

    fn path(&self) -> String {
        format!("/dev/shm/shmcreds-{}-{}", nix::unistd::geteuid(), self.roles.name())
    }
}

impl Stage for PoolScene<'_> {
    fn victim(&self) -> Result<Tracee, String> {
        let recipe = self.pools.recipe(self.changed());
        Tracee::start(
            || SharedRoles::attach(self.roles.name()).map_err(|error| error.to_string()),
            |roles| {
                let done = match self.act {
                    Act::Insert => roles.role(recipe).map(drop),
                    Act::Evict => roles.evict(&recipe).map(drop),
                    Act::Fetch => roles.role(recipe).and_then(|role| role.credentials()).map(drop),
                };
                done.map_err(|error| error.to_string())
            },
        )
    }

    fn shared_bytes(&self) -> [Vec<u8>; 2] {
        [self.path() + "@lock", self.path()].map(|path| fs::read(path).unwrap_or_default())
    }
}
