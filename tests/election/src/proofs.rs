//! What holds in every state, what happens in some, and that each part of the protocol is needed for it.

use std::collections::HashMap;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::{
    model::{Mutation, Protocol},
    state::{At, GENERATIONS, Outcome, PROCESSES, Record, State, Vacancy},
};

/// Nobody dies or hangs.
const QUIET: Protocol = Protocol {
    generations: GENERATIONS,
    kills: 0,
    stops: 0,
    closes: 0,
    marks: false,
    mutation: None,
};
/// Two of three die, and one is stopped for as long as it likes, in any order.
const FAULTY: Protocol = Protocol { kills: 2, stops: 1, ..QUIET };
/// Two of three are stopped, in the middle of writing, too.
const HANGING: Protocol = Protocol { generations: 1, stops: 2, ..QUIET };
/// One loses its locks, one dies and one is stopped. All see each other's marks.
const CLOSING: Protocol =
    Protocol { generations: 1, kills: 1, stops: 1, closes: 1, marks: true, ..QUIET };

pub(crate) fn properties(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::always("a version is succeeded once", |_, state: &State| {
            !state.flaws.succeeded_twice
        }),
        Property::always("the generation does not go back", |_, state: &State| {
            state.version.generation == state.highest
        }),
        Property::always("the newest set was asked for last, and is whole", |_, state: &State| {
            let generation = state.version.generation;
            let expected = Record::Whole { generation, asked: generation.saturating_sub(1) };
            generation == 0 || state.slots[state.version.slot] == expected
        }),
        Property::always("a published slot is not written", |_, state: &State| {
            !state.flaws.wrote_published
        }),
        Property::always("one process calls while its lease holds", |_, state: &State| {
            let calling = state.at.iter().filter(|at| calls_within_its_lease(state, at)).count();
            calling <= 1 || state.flaws.unmarked
        }),
        Property::always("nobody alive within its lease is replaced", |_, state: &State| {
            !took_over(state, Vacancy::None)
        }),
        Property::always("a fault costs one call", |_, state: &State| {
            let faults = state.deaths() + state.stops + state.closes;
            // One more is under way.
            state.calls.iter().sum::<usize>() <= state.version.generation + faults + 1
        }),
        Property::sometimes("all generations are published", |protocol: &Protocol, state| {
            state.version.generation == protocol.generations
        }),
        Property::sometimes("a set is published over a mark", |protocol: &Protocol, state| {
            protocol.generations == 1 || outcome(state, Outcome::PublishedOverMark)
        }),
    ];
    if protocol.kills + protocol.stops + protocol.closes == 0 {
        properties.extend([
            Property::always("one call for each generation", |_, state: &State| {
                state.calls.iter().all(|calls| *calls <= 1)
            }),
            Property::always("nobody fetches what is there", |_, state: &State| {
                !state.flaws.needless_call
            }),
            Property::sometimes("a lease is extended", |_, state: &State| {
                state.at.iter().any(|at| matches!(at, At::Renewed { .. }))
            }),
        ]);
    }
    if protocol.kills > 0 {
        properties.push(Property::sometimes("one takes over from the dead", |_, state: &State| {
            took_over(state, Vacancy::Died)
        }));
    }
    if protocol.closes > 0 {
        properties.push(Property::sometimes("a mark holds the election", |_, state: &State| {
            let noted = state.noted.map(|(ticket, _)| ticket);
            noted.is_some_and(|ticket| state.tickets[ticket].holder.is_none())
        }));
    }
    if protocol.stops > 0 {
        properties.extend([
            Property::sometimes("one takes over from the stopped", |_, state: &State| {
                took_over(state, Vacancy::Hung)
            }),
            Property::sometimes("a late set is refused", |_, state: &State| {
                outcome(state, Outcome::Superseded)
            }),
            Property::sometimes("a late extension is refused", |_, state: &State| {
                state.at.iter().any(|at| matches!(at, At::Lost { .. }))
            }),
            Property::sometimes("a writer passes by a slot in use", |_, state: &State| {
                state.at.iter().any(|at| matches!(at, At::Choosing { step: 2, .. }))
            }),
        ]);
    }
    properties
}

fn calls_within_its_lease(state: &State, at: &At) -> bool {
    matches!(at, At::Calling { ticket, .. } if state.tickets[*ticket].left > 0)
}

fn took_over(state: &State, from: Vacancy) -> bool {
    state.at.iter().any(|at| matches!(at, At::Elected { vacancy, .. } if *vacancy == from))
}

fn outcome(state: &State, expected: Outcome) -> bool {
    state.at.iter().any(|at| matches!(at, At::Releasing { outcome, .. } if *outcome == expected))
}

/// Every state is looked at; every `always` holds in all, every `sometimes` in one.
fn check(protocol: Protocol) {
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

#[test]
fn it_holds_where_nobody_dies_or_hangs() {
    check(QUIET);
}

#[test]
fn it_holds_with_two_kills_and_a_stop() {
    check(FAULTY);
}

#[test]
fn it_holds_with_two_stops() {
    check(HANGING);
}

#[test]
fn it_holds_where_one_loses_its_locks() {
    check(CLOSING);
}

/// The states, each with those that steps alone, without any more kill or stop, lead to; `None` if a
/// state was found from which those that still run have no way to a newer set.
///
/// So a set is published by every schedule that leaves out no possible step for ever: in a finite graph
/// such a schedule ends where each state is reached again and again, and from each of them the newer
/// set can be reached. Those that are stopped need not wake up for it.
fn progresses(protocol: Protocol) -> bool {
    let mut known: HashMap<State, usize> = HashMap::new();
    let mut states = protocol.init_states();
    known.insert(states[0].clone(), 0);
    // Of each state, those from which a step leads to it.
    let mut origins: Vec<Vec<usize>> = vec![Vec::new()];
    let mut from = 0;
    while from < states.len() {
        let state = states[from].clone();
        let mut actions = Vec::new();
        protocol.actions(&state, &mut actions);
        for action in actions {
            let Some(next) = protocol.next_state(&state, action) else { continue };
            let to = *known.entry(next).or_insert_with_key(|next| {
                states.push(next.clone());
                origins.push(Vec::new());
                states.len() - 1
            });
            if !action.is_fault() {
                origins[to].push(from);
            }
        }
        from += 1;
    }
    let needs_none = |state: &State| {
        state.version.generation == protocol.generations || (0..PROCESSES).all(|p| !state.runs(p))
    };
    let generation = |state: usize| states[state].version.generation;
    // Backwards from where nothing is needed, and from each step that has published something.
    let mut good: Vec<bool> = states.iter().map(needs_none).collect();
    let published = |(to, from): (usize, &Vec<usize>)| {
        from.iter().copied().filter(|from| generation(*from) < generation(to)).collect::<Vec<_>>()
    };
    let mut reached: Vec<usize> = origins.iter().enumerate().flat_map(published).collect();
    reached.extend((0..states.len()).filter(|state| good[*state]));
    reached.iter().for_each(|state| good[*state] = true);
    while let Some(state) = reached.pop() {
        for origin in &origins[state] {
            if !std::mem::replace(&mut good[*origin], true) {
                reached.push(*origin);
            }
        }
    }
    good.into_iter().all(|good| good)
}

#[test]
fn a_set_is_published_whoever_died_or_hangs() {
    for protocol in [QUIET, FAULTY, HANGING, CLOSING] {
        assert!(progresses(protocol), "{protocol:?}");
    }
}

/// Whether a state in which `property` fails is found when one thing is done wrong.
fn breaks(mutation: Mutation, property: &'static str) -> bool {
    [QUIET, Protocol { kills: 1, ..FAULTY }, Protocol { kills: 0, ..CLOSING }].into_iter().any(
        |protocol| {
            let checker = Protocol { mutation: Some(mutation), ..protocol }
                .checker()
                .threads(2)
                .finish_when(HasDiscoveries::AllOf([property].into()))
                .spawn_bfs()
                .join();
            checker.discovery(property).is_some()
        },
    )
}

#[test]
fn every_part_is_needed() {
    use Mutation::*;
    for (mutation, property) in [
        (ElectedUncompared, "nobody alive within its lease is replaced"),
        (RunningLeaseIsVacant, "nobody alive within its lease is replaced"),
        (FreedBeforeRenewal, "nobody alive within its lease is replaced"),
        (FreedBeforeResignation, "nobody alive within its lease is replaced"),
        (ResignedUncompared, "one process calls while its lease holds"),
        (NoSecondLook, "nobody fetches what is there"),
        (PublishedUncompared, "a version is succeeded once"),
        (BasedOnTheNewest, "the newest set was asked for last, and is whole"),
        (NoSlotGuard, "a published slot is not written"),
        (NoClaim, "a published slot is not written"),
        (NoMark, "nobody alive within its lease is replaced"),
        (PublishedSlotTaken, "a published slot is not written"),
        (MarkedUncompared, "the generation does not go back"),
    ] {
        assert!(breaks(mutation, property), "{mutation:?} does no harm");
    }
}

#[test]
fn a_lease_that_does_not_end_stops_everything() {
    let mutation = Some(Mutation::ExpiredLeaseHolds);
    assert!(progresses(Protocol { mutation, ..QUIET }));
    assert!(!progresses(Protocol { mutation, ..HANGING }));
}
