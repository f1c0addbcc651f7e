//! One whole refresh, recorded: the library's instructions in the order in which they are made.

use std::collections::HashMap;

use crate::{
    code::Code,
    scene::{Plot, Scene},
    tracee::{Point, Tracee},
};

/// What a run is recorded of: a process that is about to work on shared memory.
pub trait Stage {
    fn victim(&self) -> Result<Tracee, String>;
    /// The bytes of the lock file and of the segment.
    fn shared_bytes(&self) -> [Vec<u8>; 2];
}

/// The instructions of a refresh.
pub struct Run {
    points: Vec<Point>,
    /// From the first store to shared memory to the instruction after the last.
    stores: std::ops::RangeInclusive<usize>,
    /// The first instruction after which the election is held, in a session.
    elected: usize,
    /// The first instruction after which a slot is being written, in a session.
    writing: usize,
    /// All instructions, those of other code included.
    pub steps: usize,
}

/// Where the entry is in the segment.
const ENTRY: usize = 4096;
/// Where its election word is.
const ELECTION: std::ops::Range<usize> = ENTRY + 256..ENTRY + 264;

/// Where its slots begin.
const SLOTS: usize = ENTRY + 768;

impl Run {
    /// A refresh of a session.
    pub fn record(code: &Code, plot: Plot) -> Result<Self, String> {
        let scene = Scene::new(plot)?;
        let run = Run::of(code, &scene)?;
        scene.end()?;
        match run.elected > 0 && run.writing > 0 {
            true => Ok(run),
            false => Err("the refresh has written no set".into()),
        }
    }

    /// Whatever the process of `scene` does.
    pub fn of(code: &Code, scene: &impl Stage) -> Result<Self, String> {
        let mut seen: HashMap<u64, usize> = HashMap::new();
        let mut points: Vec<Point> = Vec::new();
        let mut bytes = scene.shared_bytes();
        let (mut first, mut last) = (None, None);
        let (mut elected, mut writing) = (None, None);
        let steps = scene.victim()?.step_through(code, |address| {
            let occurrence = seen.entry(address).or_default();
            *occurrence += 1;
            let now = scene.shared_bytes();
            if now != bytes {
                first.get_or_insert(points.len().saturating_sub(1));
                last = Some(points.len());
                if now[1][ELECTION] != bytes[1][ELECTION] {
                    elected.get_or_insert(points.len());
                }
                if now[1][SLOTS..] != bytes[1][SLOTS..] {
                    writing.get_or_insert(points.len());
                }
                bytes = now;
            }
            points.push(Point { address, occurrence: *occurrence });
        })?;
        let (elected, writing) = (elected.unwrap_or(0), writing.unwrap_or(0));
        match (first, last) {
            (Some(first), Some(last)) => {
                Ok(Run { points, stores: first..=last, elected, writing, steps })
            }
            _ => Err("the process stored nothing in shared memory".into()),
        }
    }

    /// The numbers of the points between the first and the last store.
    pub fn between_stores(&self) -> std::ops::RangeInclusive<usize> {
        self.stores.clone()
    }

    /// The number of the first point at which the process is elected.
    pub fn elected(&self) -> usize {
        self.elected
    }

    /// The number of the first point at which the process has begun to write.
    pub fn writing(&self) -> usize {
        self.writing
    }

    pub fn all(&self) -> usize {
        self.points.len()
    }

    pub fn point(&self, index: usize) -> Point {
        self.points[index]
    }

    /// The point number `index`, for a process that stands at number `from` already.
    pub fn point_after(&self, from: usize, index: usize) -> Point {
        let address = self.points[index].address;
        // The one that it stands at has still to be made, and counts.
        let before = self.points[..from].iter().filter(|point| point.address == address).count();
        let occurrence = self.points[index].occurrence - before;
        Point { address, occurrence }
    }

    /// Whether another run is made of the same instructions.
    pub fn same_as(&self, other: &Run) -> bool {
        self.points == other.points
    }
}
