//! One whole refresh, recorded: the library's instructions in the order in which they are made.

use std::collections::HashMap;

use crate::{
    code::Code,
    scene::{Plot, Scene},
    tracee::Point,
};

/// The instructions of a refresh.
pub struct Run {
    points: Vec<Point>,
    /// From the first store to shared memory to the instruction after the last.
    stores: std::ops::RangeInclusive<usize>,
    /// The first instruction after which the election is held.
    elected: usize,
    /// The first instruction after which a slot is being written.
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
    pub fn record(code: &Code, plot: Plot) -> Result<Self, String> {
        let scene = Scene::new(plot)?;
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
        scene.end()?;
        match (first, last, elected, writing) {
            (Some(first), Some(last), Some(elected), Some(writing)) => {
                Ok(Run { points, stores: first..=last, elected, writing, steps })
            }
            _ => Err("the refresh stored nothing in shared memory".into()),
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
