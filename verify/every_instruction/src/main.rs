//! Kills, or stops, a process at every instruction of a refresh, or of a change in a pool of roles, and looks at what the
//! others find.
//!
//! A refresh is recorded first: one process does it from the request to the resignation, step by step. Then,
//! for each instruction of the library between the first and the last store to shared memory, a fresh process
//! runs to exactly that instruction and is killed or stopped there.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("every_instruction knows the breakpoints of x86_64 only");

mod code;
mod pool;
mod processes;
mod run;
mod scene;
mod sets;
mod tracee;
mod trials;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{
    code::{Code, Whose},
    pool::Act,
    run::Run,
    scene::{Answer, Plot, Predecessor},
    trials::{Outcome, Trial},
};

/// Kills, or stops, a process at every instruction of a refresh.
#[derive(Parser)]
struct Arguments {
    /// What happens at each instruction.
    #[arg(long, value_enum, default_values_t = [Trial::Kill, Trial::KillWaited, Trial::Stop])]
    trial: Vec<Trial>,
    /// Kills at each instruction of this change in a pool, instead of a refresh.
    #[arg(long, value_enum, conflicts_with_all = ["trial", "answer", "predecessor"])]
    pool: Option<Act>,
    /// What the source answers.
    #[arg(long, value_enum, default_value_t = Answer::Set)]
    answer: Answer,
    /// What became of the process that refreshed before.
    #[arg(long, value_enum, default_value_t = Predecessor::Resigned)]
    predecessor: Predecessor,
    /// Whose instructions.
    #[arg(long, value_enum, default_value_t = Whose::Library)]
    code: Whose,
    /// Tries one instruction of so many.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Which one of them.
    #[arg(long, default_value_t = 0)]
    seed: usize,
    /// Shows how many instructions each function has.
    #[arg(long)]
    functions: bool,
}

/// What came of one kind of trial.
#[derive(Default)]
struct Tally {
    tried: usize,
    outcomes: BTreeMap<&'static str, usize>,
    slowest: Duration,
    failures: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.pool {
        Some(act) => try_pool(&arguments, act),
        None => arguments
            .trial
            .iter()
            .try_fold(true, |well, trial| Ok(try_all(&arguments, *trial)? && well)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            let problem: String = problem;
            eprintln!("every_instruction: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn try_all(arguments: &Arguments, trial: Trial) -> Result<bool, String> {
    let code = Code::of_this_program(arguments.code)?;
    let Arguments { answer, predecessor, .. } = *arguments;
    let plot = Plot { clock: trial.needs_clock(), answer, predecessor };
    let run = recorded(&format!("{trial:?}: a refresh"), &code, || Run::record(&code, plot))?;
    let at = |index| trial.at(plot, &run, index);
    try_points(arguments, &code, &format!("{trial:?}"), &run, at)
}

fn try_pool(arguments: &Arguments, act: Act) -> Result<bool, String> {
    let code = Code::of_this_program(arguments.code)?;
    let pools = pool::Pools::new()?;
    let run = recorded(&format!("{act:?} in a pool: it"), &code, || pools.record(&code, act))?;
    let at = |index| pools.kill(act, &run, index);
    try_points(arguments, &code, &format!("{act:?} in a pool"), &run, at)
}

fn recorded(
    what: &str,
    code: &Code,
    record: impl Fn() -> Result<Run, String>,
) -> Result<Run, String> {
    // The first run of all has more to do: it finds nothing prepared.
    record()?;
    let (run, again) = (record()?, record()?);
    println!(
        "{what} takes {} instructions, {} of them {}; of these {} are between the first and the last store; another run \
         is {}",
        run.steps,
        run.all(),
        code,
        run.between_stores().count(),
        if run.same_as(&again) { "the same" } else { "different" },
    );
    Ok(run)
}

fn try_points(
    arguments: &Arguments,
    code: &Code,
    what: &str,
    run: &Run,
    at: impl Fn(usize) -> Result<(Outcome, Duration), String>,
) -> Result<bool, String> {
    if arguments.functions {
        show_functions(code, run);
    }
    let began = Instant::now();
    let mut tally = Tally::default();
    let points = run.between_stores();
    for index in points.skip(arguments.seed % arguments.every).step_by(arguments.every) {
        tally.tried += 1;
        match at(index) {
            Ok((outcome, slowest)) => {
                *tally.outcomes.entry(name(outcome)).or_default() += 1;
                tally.slowest = tally.slowest.max(slowest);
            }
            Err(problem) => {
                let place = code.place(run.point(index).address);
                let occurrence = run.point(index).occurrence;
                let text = format!("point {index} ({place}, time {occurrence}): {problem}");
                eprintln!("{what}: {text}");
                tally.failures.push(text);
            }
        }
    }
    println!(
        "{what}: {} points tried in {:.0?}: {:?}; slowest work of another process {:.1?}; {} failures",
        tally.tried,
        began.elapsed(),
        tally.outcomes,
        tally.slowest,
        tally.failures.len(),
    );
    // Code of others may take another way each time. The library's does where chance decides, which is rare.
    let missed = tally.outcomes.get(name(Outcome::Missed)).copied().unwrap_or(0);
    let too_many = arguments.code == Whose::Library && missed * 20 > tally.tried;
    Ok(tally.failures.is_empty() && !too_many)
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Old => "old",
        Outcome::New => "new",
        Outcome::Later => "later",
        Outcome::Missed => "not come to",
    }
}

fn show_functions(code: &Code, run: &Run) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for index in run.between_stores() {
        let place = code.place(run.point(index).address);
        *counts.entry(place.function().to_owned()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().for_each(|(function, count)| println!("{count:8} {function}"));
}
