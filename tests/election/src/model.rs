//! The steps.

use stateright::{Model, Property};

use crate::{
    proofs,
    state::{At, LEASE, Outcome, PROCESSES, Process, Record, SLOTS, Slot, State, Vacancy, Version},
};

/// The protocol with one thing done wrong: then a property must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A candidate stores its ticket, whatever the word is by now.
    ElectedUncompared,
    /// A lease that is over counts as held while its owner lives.
    ExpiredLeaseHolds,
    /// A lease that is running counts as vacant.
    RunningLeaseIsVacant,
    /// Renewal frees the old byte before the word names the new one.
    FreedBeforeRenewal,
    /// Resignation frees the byte before the word is 0.
    FreedBeforeResignation,
    /// Resignation stores 0, although another process may be elected by now.
    ResignedUncompared,
    /// The winner does not check whether another process has published meanwhile.
    NoSecondLook,
    /// The version is stored, and not exchanged from the one that the set is based on.
    PublishedUncompared,
    /// The version is exchanged from the newest instead.
    BasedOnTheNewest,
    /// Slots are written without their locks, and without claims.
    NoSlotGuard,
    /// Slots are written under their locks, and without claims.
    NoClaim,
    /// The elected process leaves no mark.
    NoMark,
    /// A slot is written although it is published.
    PublishedSlotTaken,
    /// The mark is stored whatever is published by now.
    MarkedUncompared,
}

/// The protocol, with so many generations, kills and stops at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// Nobody needs a successor of the last one.
    pub(crate) generations: usize,
    pub(crate) kills: usize,
    pub(crate) stops: usize,
    /// How often something in a process closes the lock file.
    pub(crate) closes: usize,
    /// Whether processes see each other's marks: all are in one pid namespace.
    pub(crate) marks: bool,
    pub(crate) mutation: Option<Mutation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The next step of a process that is idle: to have the newest set rejected.
    Reject(Process),
    /// The only step that there is; of an idle process: to stand.
    Step(Process),
    /// In place of looking whether a set is due.
    Renew(Process),
    Resign(Process),
    Kill(Process),
    Stop(Process),
    Continue(Process),
    /// The process loses its locks.
    Close(Process),
    Tick,
}

impl Action {
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Action::Kill(_) | Action::Stop(_) | Action::Continue(_) | Action::Close(_))
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for process in 0..PROCESSES {
            if state.stopped[process] {
                actions.push(Action::Continue(process));
            }
            if state.at[process] != At::Dead && state.deaths() < self.kills {
                actions.push(Action::Kill(process));
            }
            if state.runs(process) {
                if state.stops < self.stops {
                    actions.push(Action::Stop(process));
                }
                if state.closes < self.closes && state.has_locks(process) {
                    actions.push(Action::Close(process));
                }
                self.steps(state, process, actions);
            }
        }
        if !state.is_urgent() {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Kill(process) => state.kill(process),
            Action::Stop(process) => {
                state.stopped[process] = true;
                state.stops += 1;
            }
            Action::Continue(process) => state.stopped[process] = false,
            Action::Close(process) => {
                state.free_locks(process);
                state.closes += 1;
            }
            Action::Tick => state.tick(),
            Action::Reject(process) => state.at[process] = At::Marking { seen: state.version },
            Action::Renew(process) => {
                let At::Serving { ticket } = state.at[process] else { return None };
                let next = state.lock_ticket(process);
                if self.has(Mutation::FreedBeforeRenewal) {
                    state.unlock(ticket);
                }
                state.at[process] = At::Renewing { ticket, next };
            }
            Action::Resign(process) => {
                let At::Serving { ticket } = state.at[process] else { return None };
                state.at[process] = self.resign(&mut state, ticket);
            }
            Action::Step(process) => state.at[process] = self.step(&mut state, process),
        }
        let state = state.canonical();
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        proofs::properties(self)
    }
}

impl Protocol {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// What a process that runs may do next.
    fn steps(&self, state: &State, process: Process, actions: &mut Vec<Action>) {
        let is_due = state.version.generation < self.generations;
        match state.at[process] {
            At::Idle => {
                if is_due {
                    actions.push(Action::Step(process));
                }
                if state.version.generation > 0 && !state.version.stale {
                    actions.push(Action::Reject(process));
                }
            }
            At::Serving { ticket } => {
                actions.push(Action::Resign(process));
                if state.tickets[ticket].left < LEASE {
                    actions.push(Action::Renew(process));
                }
                if is_due {
                    actions.push(Action::Step(process));
                }
            }
            _ => actions.push(Action::Step(process)),
        }
    }

    /// One access to what is shared; gives where the process stands then.
    fn step(&self, state: &mut State, process: Process) -> At {
        match state.at[process] {
            At::Idle => {
                let ticket = state.lock_ticket(process);
                At::Standing { looked: state.version.generation, ticket, ago: 0 }
            }
            At::Marking { seen } => {
                if state.version == seen || self.has(Mutation::MarkedUncompared) {
                    state.version = Version { stale: true, ..seen };
                }
                At::Idle
            }
            At::Standing { looked, ticket, ago } => {
                At::Saw { looked, ticket, ago, seen: state.word }
            }
            At::Saw { looked, ticket, ago, seen } => {
                if seen.is_some_and(|seen| self.is_held(state, process, seen, ago)) {
                    // It sleeps beside the elected, and looks again from the start.
                    state.unlock(ticket);
                    return At::Idle;
                }
                state.flaws.unmarked |= vacancy(state, seen) == Vacancy::Unmarked;
                At::Vacant { looked, ticket, ago, seen }
            }
            At::Vacant { looked, ticket, ago, seen } => {
                if state.word != seen && !self.has(Mutation::ElectedUncompared) {
                    return At::Standing { looked, ticket, ago };
                }
                let vacancy = vacancy(state, state.word);
                state.word = Some(ticket);
                At::Elected { looked, ticket, vacancy }
            }
            At::Elected { looked, ticket, .. } => {
                self.note(state, process, ticket);
                At::Noted { looked, ticket }
            }
            At::Noted { looked, ticket } => {
                if state.version.generation != looked && !self.has(Mutation::NoSecondLook) {
                    return self.resign(state, ticket);
                }
                At::Refreshing { looked, ticket }
            }
            At::Serving { ticket } => At::Refreshing { looked: state.version.generation, ticket },
            At::Renewing { ticket, next } => {
                if state.word != Some(ticket) {
                    return At::Lost { ticket, next };
                }
                state.word = Some(next);
                At::Renewed { ticket: next, old: ticket }
            }
            At::Renewed { ticket, old } => {
                self.note(state, process, ticket);
                At::Marked { ticket, old }
            }
            At::Marked { ticket, old } => {
                state.unlock(old);
                At::Serving { ticket }
            }
            At::Lost { ticket, next } => {
                state.unlock(next);
                self.resign(state, ticket)
            }
            At::Refreshing { looked, ticket } => At::Based { looked, ticket, basis: state.version },
            At::Based { looked, ticket, basis } => {
                if state.word != Some(ticket) || basis.generation == self.generations {
                    return self.resign(state, ticket);
                }
                state.calls[basis.generation] += 1;
                state.flaws.needless_call |= basis.generation != looked;
                At::Calling { ticket, basis }
            }
            At::Calling { ticket, basis } => At::Choosing { ticket, basis, step: 1 },
            At::Choosing { .. }
            | At::Claiming { .. }
            | At::Locked { .. }
            | At::Published { .. }
            | At::Beginning { .. }
            | At::Writing { .. }
            | At::Written { .. }
            | At::Releasing { .. } => self.store(state, process),
            At::Resigning { ticket } => {
                if state.word == Some(ticket) || self.has(Mutation::ResignedUncompared) {
                    state.word = None;
                }
                At::Freeing { ticket }
            }
            At::Freeing { ticket } => {
                state.unlock(ticket);
                At::Idle
            }
            At::Dead => At::Dead,
        }
    }

    /// To write a slot and to publish it.
    fn store(&self, state: &mut State, process: Process) -> At {
        match state.at[process] {
            // Every slot has somebody stopped in it: the refresh has failed.
            At::Choosing { ticket, step, .. } if step > SLOTS => At::Serving { ticket },
            At::Choosing { ticket, basis, step } => {
                let lock = &mut state.slot_locks[slot(basis, step)];
                if !self.has(Mutation::NoSlotGuard) {
                    if lock.is_some_and(|holder| holder != process) {
                        return At::Choosing { ticket, basis, step: step + 1 };
                    }
                    *lock = Some(process);
                }
                match self.has_claims() {
                    true => At::Claiming { ticket, basis, step },
                    false => At::Locked { ticket, basis, step },
                }
            }
            At::Claiming { ticket, basis, step } => {
                let slot = slot(basis, step);
                if state.claims[slot].is_some_and(|holder| state.at[holder] != At::Dead) {
                    return At::Published { ticket, basis, step };
                }
                state.claims[slot] = Some(process);
                At::Locked { ticket, basis, step }
            }
            At::Locked { ticket, basis, step } => {
                let slot = slot(basis, step);
                if state.is_published(slot) && !self.has(Mutation::PublishedSlotTaken) {
                    return At::Published { ticket, basis, step };
                }
                At::Beginning { ticket, basis, slot }
            }
            At::Published { ticket, basis, step } => {
                self.leave_slot(state, process, slot(basis, step));
                At::Choosing { ticket, basis, step: step + 1 }
            }
            At::Beginning { ticket, basis, slot } => {
                put(state, slot, Record::Nothing);
                At::Writing { ticket, basis, slot }
            }
            At::Writing { ticket, basis, slot } => {
                let asked = basis.generation;
                put(state, slot, Record::Whole { generation: asked + 1, asked });
                At::Written { ticket, basis, slot }
            }
            At::Written { ticket, basis, slot } => {
                At::Releasing { ticket, slot, outcome: self.publish(state, basis, slot) }
            }
            At::Releasing { ticket, slot, .. } => {
                self.leave_slot(state, process, slot);
                At::Serving { ticket }
            }
            at => at,
        }
    }

    /// The exchange of the version, from the one that the set is based on, marked or not.
    fn publish(&self, state: &mut State, basis: Version, slot: Slot) -> Outcome {
        let found = state.version;
        let same = Version { stale: false, ..found } == Version { stale: false, ..basis };
        let mut generation = basis.generation + 1;
        if self.has(Mutation::BasedOnTheNewest) {
            generation = (found.generation + 1).min(self.generations);
            state.slots[slot] = Record::Whole { generation, asked: basis.generation };
        } else if !same && !self.has(Mutation::PublishedUncompared) {
            return Outcome::Superseded;
        }
        state.flaws.succeeded_twice |= generation <= state.highest;
        state.highest = state.highest.max(generation);
        state.version = Version { generation, slot, stale: false };
        if found == basis { Outcome::Published } else { Outcome::PublishedOverMark }
    }

    /// Ends the claim, and frees the lock after that: one step, since who sees the first alone finds the slot in use
    /// as before.
    fn leave_slot(&self, state: &mut State, us: Process, slot: Slot) {
        for guard in [&mut state.claims[slot], &mut state.slot_locks[slot]] {
            if *guard == Some(us) {
                *guard = None;
            }
        }
    }

    fn has_claims(&self) -> bool {
        self.marks && !self.has(Mutation::NoSlotGuard) && !self.has(Mutation::NoClaim)
    }

    /// `note_elected`: the mark of the elected, made for its ticket.
    fn note(&self, state: &mut State, process: Process, ticket: usize) {
        if self.marks && !self.has(Mutation::NoMark) {
            state.flaws.overwritten |= state.word != Some(ticket);
            state.noted = Some((ticket, process));
        }
    }

    /// `holder_of`: a lease that runs, by the clock as it was `ago`, and a byte that another process has, or a mark
    /// of one that lives.
    fn is_held(&self, state: &State, us: Process, seen: usize, ago: i8) -> bool {
        let lease = state.tickets[seen];
        let runs = lease.left + ago > 0 && !self.has(Mutation::RunningLeaseIsVacant);
        let marked = |(ticket, holder)| ticket == seen && state.at[holder] != At::Dead;
        let lives =
            lease.holder.is_some_and(|holder| holder != us) || state.noted.is_some_and(marked);
        (runs || self.has(Mutation::ExpiredLeaseHolds)) && lives
    }

    fn resign(&self, state: &mut State, ticket: usize) -> At {
        if self.has(Mutation::FreedBeforeResignation) {
            state.unlock(ticket);
        }
        At::Resigning { ticket }
    }
}

/// The slot of the step-th try.
fn slot(basis: Version, step: usize) -> Slot {
    (basis.slot + step) % SLOTS
}

/// A store into a slot.
fn put(state: &mut State, slot: Slot, record: Record) {
    state.flaws.wrote_published |= state.is_published(slot);
    state.slots[slot] = record;
}

/// Whether the elected has not come so far as to leave its mark, or a late one has put its own there.
fn lacks_mark(state: &State, owner: usize) -> bool {
    let early = matches!(state.at[owner], At::Elected { .. } | At::Renewed { .. });
    early || state.flaws.overwritten
}

/// What was the matter with the one whom the word named.
fn vacancy(state: &State, word: Option<usize>) -> Vacancy {
    let Some(ticket) = word else { return Vacancy::Resigned };
    let owner = state.at.iter().position(|at| at.elected_with() == Some(ticket));
    match owner {
        _ if state.tickets[ticket].left <= 0 => Vacancy::Hung,
        None => Vacancy::Died,
        // It may have left its mark since somebody found it without.
        Some(_) if state.flaws.unmarked => Vacancy::Unmarked,
        Some(owner) if state.closes > 0 && lacks_mark(state, owner) => Vacancy::Unmarked,
        Some(_) => Vacancy::None,
    }
}
