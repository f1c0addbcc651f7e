//! What the processes share, and where each of them stands.

pub(crate) const PROCESSES: usize = 3;
/// `segment/layout.rs`: `SET_SLOTS`.
pub(crate) const SLOTS: usize = 3;
/// At most.
pub(crate) const GENERATIONS: usize = 2;
pub(crate) const LEASE: i8 = 2;
/// How long ago a process may have looked at the clock, in ticks; older is as old.
const LONGEST_AGO: i8 = 1;

/// The place of a ticket in the table: a name, since tickets do not repeat.
pub(crate) type Ticket = usize;
pub(crate) type Process = usize;
pub(crate) type Slot = usize;
pub(crate) type Generation = usize;

/// What is newest: `seqlock::Version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) generation: Generation,
    pub(crate) slot: Slot,
    pub(crate) stale: bool,
}

/// What stands in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Record {
    /// Sequence 0, or a set that is not the newest: nobody takes it for whole.
    Nothing,
    /// The set of `generation`; `asked` was newest when the source was asked for it.
    Whole { generation: Generation, asked: Generation },
}

/// A ticket that somebody still knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lease {
    /// Ticks until it ends; not above 0 when it is over.
    pub(crate) left: i8,
    /// Who holds the byte: the kernel's lock table.
    pub(crate) holder: Option<Process>,
}

/// Why the election was vacant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Vacancy {
    Resigned,
    Died,
    Hung,
    /// The predecessor has lost its lock before it left its mark, or another has overwritten that.
    Unmarked,
    /// The predecessor is alive and its lease running: this must not be.
    None,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Published,
    /// The same, over a mark that somebody set since the source was asked.
    PublishedOverMark,
    /// Another one was there.
    Superseded,
}

/// Where a process stands, and what it has in its hands. `looked` is the generation that it found in need
/// of a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum At {
    Idle,
    Marking { seen: Version },
    Standing { looked: Generation, ticket: Ticket, ago: i8 },
    Saw { looked: Generation, ticket: Ticket, ago: i8, seen: Option<Ticket> },
    Vacant { looked: Generation, ticket: Ticket, ago: i8, seen: Option<Ticket> },
    Elected { looked: Generation, ticket: Ticket, vacancy: Vacancy },
    Noted { looked: Generation, ticket: Ticket },
    Serving { ticket: Ticket },
    Renewing { ticket: Ticket, next: Ticket },
    Renewed { ticket: Ticket, old: Ticket },
    Marked { ticket: Ticket, old: Ticket },
    Lost { ticket: Ticket, next: Ticket },
    Refreshing { looked: Generation, ticket: Ticket },
    Based { looked: Generation, ticket: Ticket, basis: Version },
    Calling { ticket: Ticket, basis: Version },
    Choosing { ticket: Ticket, basis: Version, step: usize },
    Claiming { ticket: Ticket, basis: Version, step: usize },
    Locked { ticket: Ticket, basis: Version, step: usize },
    Published { ticket: Ticket, basis: Version, step: usize },
    Beginning { ticket: Ticket, basis: Version, slot: Slot },
    Writing { ticket: Ticket, basis: Version, slot: Slot },
    Written { ticket: Ticket, basis: Version, slot: Slot },
    Releasing { ticket: Ticket, slot: Slot, outcome: Outcome },
    Resigning { ticket: Ticket },
    Freeing { ticket: Ticket },
    Dead,
}

impl At {
    /// The tickets that it knows.
    fn tickets(&mut self) -> [Option<&mut Ticket>; 2] {
        use At::*;
        match self {
            Idle | Marking { .. } | Dead => [None, None],
            Saw { ticket, seen, .. } | Vacant { ticket, seen, .. } => [Some(ticket), seen.as_mut()],
            Renewing { ticket, next } | Lost { ticket, next } => [Some(ticket), Some(next)],
            Renewed { ticket, old } | Marked { ticket, old } => [Some(ticket), Some(old)],
            Standing { ticket, .. }
            | Elected { ticket, .. }
            | Noted { ticket, .. }
            | Serving { ticket }
            | Refreshing { ticket, .. }
            | Based { ticket, .. }
            | Calling { ticket, .. }
            | Choosing { ticket, .. }
            | Claiming { ticket, .. }
            | Locked { ticket, .. }
            | Published { ticket, .. }
            | Beginning { ticket, .. }
            | Writing { ticket, .. }
            | Written { ticket, .. }
            | Releasing { ticket, .. }
            | Resigning { ticket }
            | Freeing { ticket } => [Some(ticket), None],
        }
    }

    /// The ticket with which it believes itself elected.
    pub(crate) fn elected_with(mut self) -> Option<Ticket> {
        match self {
            At::Standing { .. } | At::Saw { .. } | At::Vacant { .. } | At::Freeing { .. } => None,
            _ => self.tickets()[0].as_deref().copied(),
        }
    }

    /// The slot that it is writing.
    fn writes(&self) -> Option<Slot> {
        match self {
            At::Beginning { slot, .. } | At::Writing { slot, .. } | At::Written { slot, .. } => {
                Some(*slot)
            }
            _ => None,
        }
    }

    fn age(&mut self) -> Option<&mut i8> {
        match self {
            At::Standing { ago, .. } | At::Saw { ago, .. } | At::Vacant { ago, .. } => Some(ago),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) version: Version,
    pub(crate) slots: [Record; SLOTS],
    pub(crate) slot_locks: [Option<Process>; SLOTS],
    pub(crate) claims: [Option<Process>; SLOTS],
    /// The election word.
    pub(crate) word: Option<Ticket>,
    /// The mark beside it: for which ticket, and of which process.
    pub(crate) noted: Option<(Ticket, Process)>,
    pub(crate) tickets: Vec<Lease>,
    pub(crate) at: [At; PROCESSES],
    pub(crate) stopped: [bool; PROCESSES],
    /// How many stops there were.
    pub(crate) stops: usize,
    /// How often a process has lost its locks.
    pub(crate) closes: usize,
    /// How often the source was called, by the generation that was newest then.
    pub(crate) calls: [usize; GENERATIONS],
    /// The highest generation so far.
    pub(crate) highest: Generation,
    pub(crate) flaws: Flaws,
}

/// What must not happen, noted where it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flaws {
    /// A version was succeeded twice.
    pub(crate) succeeded_twice: bool,
    /// A process stored into the slot that was published.
    pub(crate) wrote_published: bool,
    /// The source was called for a set that was there already.
    pub(crate) needless_call: bool,
    /// A mark was left by a process that was elected no longer.
    pub(crate) overwritten: bool,
    /// A process had lost its lock when somebody looked at it, and no mark was there. No flaw, but two may call then.
    pub(crate) unmarked: bool,
}

impl State {
    pub(crate) fn new() -> Self {
        State {
            version: Version { generation: 0, slot: 0, stale: false },
            slots: [Record::Nothing; SLOTS],
            slot_locks: [None; SLOTS],
            claims: [None; SLOTS],
            word: None,
            noted: None,
            tickets: Vec::new(),
            at: [At::Idle; PROCESSES],
            stopped: [false; PROCESSES],
            stops: 0,
            closes: 0,
            calls: [0; GENERATIONS],
            highest: 0,
            flaws: Flaws::default(),
        }
    }

    pub(crate) fn runs(&self, process: Process) -> bool {
        self.at[process] != At::Dead && !self.stopped[process]
    }

    pub(crate) fn deaths(&self) -> usize {
        self.at.iter().filter(|at| **at == At::Dead).count()
    }

    /// Whether a slot holds the newest set.
    pub(crate) fn is_published(&self, slot: Slot) -> bool {
        self.version.generation > 0 && self.version.slot == slot
    }

    /// A ticket whose byte `process` locks.
    pub(crate) fn lock_ticket(&mut self, process: Process) -> Ticket {
        self.tickets.push(Lease { left: LEASE, holder: Some(process) });
        self.tickets.len() - 1
    }

    pub(crate) fn unlock(&mut self, ticket: Ticket) {
        self.tickets[ticket].holder = None;
    }

    pub(crate) fn has_locks(&self, process: Process) -> bool {
        let theirs = |holder: &Option<Process>| *holder == Some(process);
        self.tickets.iter().any(|lease| theirs(&lease.holder)) || self.slot_locks.iter().any(theirs)
    }

    pub(crate) fn kill(&mut self, process: Process) {
        self.at[process] = At::Dead;
        self.stopped[process] = false;
        self.free_locks(process);
    }

    /// The kernel frees what the process has locked.
    pub(crate) fn free_locks(&mut self, process: Process) {
        let theirs = |holder: &mut Option<Process>| {
            if *holder == Some(process) {
                *holder = None;
            }
        };
        self.tickets.iter_mut().for_each(|lease| theirs(&mut lease.holder));
        self.slot_locks.iter_mut().for_each(theirs);
    }

    /// Whether a process that runs would be slower than its lease if time went on now.
    pub(crate) fn is_urgent(&self) -> bool {
        (0..PROCESSES).filter(|process| self.runs(*process)).any(|process| {
            let mut at = self.at[process];
            at.tickets()[0].as_deref().is_some_and(|ticket| self.tickets[*ticket].left == 1)
        })
    }

    pub(crate) fn tick(&mut self) {
        for lease in &mut self.tickets {
            lease.left = (lease.left - 1).max(-LONGEST_AGO);
        }
        for ago in self.at.iter_mut().filter_map(At::age) {
            *ago = (*ago + 1).min(LONGEST_AGO);
        }
    }

    /// One state for all that differ only in the names of processes and tickets: the least of them.
    pub(crate) fn canonical(self) -> Self {
        const ORDERS: [[Process; PROCESSES]; 6] =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        ORDERS.iter().map(|order| self.renamed(order)).min().expect("six of them")
    }

    /// Process `order[i]` becomes process `i`; tickets are numbered as they are met, and those that
    /// nobody knows any more are forgotten, as is what stands in a slot that nobody will read.
    fn renamed(&self, order: &[Process; PROCESSES]) -> Self {
        let renamed =
            |process: Process| order.iter().position(|old| *old == process).expect("it is there");
        let mut state = State {
            at: order.map(|old| self.at[old]),
            stopped: order.map(|old| self.stopped[old]),
            slot_locks: self.slot_locks.map(|holder| holder.map(renamed)),
            // The mark of a dead process counts as none.
            claims: self
                .claims
                .map(|holder| holder.filter(|p| self.at[*p] != At::Dead).map(renamed)),
            noted: self.noted.filter(|(ticket, process)| {
                self.word == Some(*ticket) && self.at[*process] != At::Dead
            }),
            tickets: Vec::new(),
            ..self.clone()
        };
        for slot in 0..SLOTS {
            let written = state.at.iter().any(|at| at.writes() == Some(slot));
            if !state.is_published(slot) && !written {
                state.slots[slot] = Record::Nothing;
            }
        }
        // A ticket that the word has named and names no longer never comes back: that exchange fails.
        for at in &mut state.at {
            if let At::Vacant { looked, ticket, ago, seen: Some(seen) } = *at
                && state.word != Some(seen)
            {
                *at = At::Standing { looked, ticket, ago };
            }
        }
        let mut met: Vec<Ticket> = Vec::new();
        let known =
            state.word.iter_mut().chain(state.at.iter_mut().flat_map(At::tickets).flatten());
        for ticket in known {
            let place = met.iter().position(|old| old == ticket).unwrap_or_else(|| {
                met.push(*ticket);
                met.len() - 1
            });
            *ticket = place;
        }
        // It is that of the word, or there is none.
        state.noted = state.word.and_then(|word| Some((word, renamed(state.noted?.1))));
        state.tickets = met
            .into_iter()
            .map(|old| self.tickets[old])
            .map(|lease| Lease { holder: lease.holder.map(renamed), ..lease })
            .collect();
        state
    }
}
