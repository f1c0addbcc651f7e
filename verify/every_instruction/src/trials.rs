//! What is done to a process at one instruction, and what must be true afterwards.

use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::{
    run::{Run, Stage},
    scene::{Plot, Scene},
    sets,
};

/// One set more than there are slots: each slot is written, or found to be held by the stopped process.
const MORE_THAN_SLOTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(40);

/// What happens at the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trial {
    /// SIGKILL; then another process reads and refreshes.
    Kill,
    /// SIGKILL while another process waits for the set; that one then refreshes.
    KillWaited,
    /// SIGSTOP until the lease is over and another process has refreshed five times; then SIGCONT.
    Stop,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The others found what was there before.
    Old,
    /// They found what the process had been answered.
    New,
    /// The process that was stopped published a set after it went on: one that it fetched then.
    Later,
    /// This run of the process did not come to the instruction.
    Missed,
}

impl Trial {
    /// Whether its time passes by hand.
    pub fn needs_clock(self) -> bool {
        self == Trial::Stop
    }

    /// Tries it at the point number `index` of `run`. Gives the outcome, and the slowest refresh of others.
    pub fn at(self, plot: Plot, run: &Run, index: usize) -> Result<(Outcome, Duration), String> {
        match self {
            Trial::Kill => kill(plot, run, index),
            Trial::KillWaited => kill_waited(plot, run, index),
            Trial::Stop => stop(plot, run, index),
        }
    }
}

fn kill(plot: Plot, run: &Run, index: usize) -> Result<(Outcome, Duration), String> {
    let scene = Scene::new(plot)?;
    let mut victim = scene.victim()?;
    if !victim.run_to(run.point(index))? {
        return Ok((Outcome::Missed, Duration::ZERO));
    }
    victim.kill()?;
    let seen = scene.newest()?;
    let outcome = if scene.is_told()? { Outcome::New } else { Outcome::Old };
    let found = scene.found(scene.another(1)?)?;
    expect(found.there == seen, || format!("one reader found {seen}, the next {}", found.there))?;
    expect(scene.newest()? == found.newest, || "the next process's set is not the newest".into())?;
    expect(seen >= scene.first, || "the set is older than the first".into())?;
    scene.end()?;
    Ok((outcome, found.slowest))
}

fn kill_waited(plot: Plot, run: &Run, index: usize) -> Result<(Outcome, Duration), String> {
    let scene = Scene::new(plot)?;
    let mut victim = scene.victim()?;
    // The other one falls asleep as soon as there is somebody to wait for.
    let elected = run.elected().min(index);
    if !victim.run_to(run.point(elected))? {
        return Ok((Outcome::Missed, Duration::ZERO));
    }
    let waiter = scene.another(1)?;
    waiter.wait_asleep(PATIENCE)?;
    if index > elected && !victim.run_to(run.point_after(elected, index))? {
        return Ok((Outcome::Missed, Duration::ZERO));
    }
    let began = Instant::now();
    victim.kill()?;
    let found = scene.found(waiter)?;
    let waited = began.elapsed();
    expect(waited < scene.promise(), || format!("the waiting process needed {waited:?}"))?;
    expect(found.there >= scene.first, || "the set is older than the first".into())?;
    let newest = scene.newest()?;
    expect(newest >= found.newest, || "the set of the waiting process is lost".into())?;
    // Where the killed process had published, the waiting one makes no set itself.
    let outcome = if found.made == 0 { Outcome::New } else { Outcome::Old };
    let after = scene.found(scene.another(1)?)?;
    scene.end()?;
    Ok((outcome, waited.max(after.slowest)))
}

fn stop(plot: Plot, run: &Run, index: usize) -> Result<(Outcome, Duration), String> {
    let scene = Scene::new(plot)?;
    let mut victim = scene.victim()?;
    if !victim.run_to(run.point(index))? {
        return Ok((Outcome::Missed, Duration::ZERO));
    }
    let stopped = victim.stop()?;
    let (seen, told) = (scene.newest()?, scene.is_told()?);
    if let Some(clock) = &scene.clock {
        clock.advance(sets::LEASE_AND_MORE);
    }
    let found = scene.found(scene.another(MORE_THAN_SLOTS)?)?;
    expect(found.there == seen, || format!("one reader found {seen}, the next {}", found.there))?;
    let generation = generation(&scene)?;
    stopped.finish()?;
    let (newest, now) = (scene.newest()?, self::generation(&scene)?);
    expect(newest >= found.newest, || {
        format!("back from the set of {} to {newest}", found.newest)
    })?;
    expect(now >= generation, || format!("back from generation {generation} to {now}"))?;
    let same = (newest == found.newest) == (now == generation);
    expect(same, || {
        format!("generations {generation} and {now}, sets {} and {newest}", found.newest)
    })?;
    // Unless its set or another had been damaged, it has no reason to ask the source again.
    expect(index < run.writing() || newest == found.newest, || {
        "the process that was stopped while it wrote has refreshed once more".into()
    })?;
    let after = scene.found(scene.another(1)?)?;
    let outcome = match () {
        () if newest > found.newest => Outcome::Later,
        () if told => Outcome::New,
        () => Outcome::Old,
    };
    scene.end()?;
    Ok((outcome, found.slowest.max(after.slowest)))
}

fn generation(scene: &Scene) -> Result<u64, String> {
    scene.session.status().map(|status| status.generation()).map_err(|error| error.to_string())
}

fn expect(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
