//! Processes are killed and stopped in the middle of insertions, evictions and publications.

use std::{fs::File, os::unix::fs::FileExt, sync::OnceLock, time::Duration};

use nix::sys::{
    signal::{SigHandler, Signal, raise, signal},
    wait::WaitStatus,
};
use shmcreds::{
    ErrorKind, RoleStatus, SharedRoles,
    testing::{Fault, FaultPoint, LocalSts, ManualClock, Settings, Times, signal_at},
};

use crate::{
    assert_of,
    hostile::{SHELVES, soak},
    pool,
    support::{self, StopFile, assumed, child, name, until},
    tenant,
};

const POINTS: [FaultPoint; 11] = [
    FaultPoint::PoolEntryTaken,
    FaultPoint::PoolKeyWritten,
    FaultPoint::PoolUnindexed,
    FaultPoint::PoolCellTaken,
    FaultPoint::PoolCellReleased,
    FaultPoint::PoolRetired,
    FaultPoint::Elected,
    FaultPoint::Answered,
    FaultPoint::MidWrite,
    FaultPoint::Exchanged,
    FaultPoint::Published,
];

/// After each death every role works, in the dead process's pool with its few entries: nothing is lost for good.
pub fn deaths_at_each_point() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("points")).capacity(4).create().unwrap();
    for point in POINTS {
        let mut victim = child(|_| {
            let roles = SharedRoles::attach(roles.name()).unwrap();
            signal_at(point, Signal::SIGKILL as i32);
            for number in 0..20 {
                let role = roles.role(tenant(&sts, number)).unwrap();
                assert_of(&role.refresh().unwrap(), number);
            }
        });
        assert!(matches!(victim.reap(), WaitStatus::Signaled(..)), "{point:?}");
        for number in 0..8 {
            let role = roles.role(tenant(&sts, number)).unwrap();
            assert_of(&role.credentials().unwrap(), number);
        }
    }
    let status = roles.status().unwrap();
    assert_eq!(status.entries().len(), 4);
    assert!(status.rebuilds() >= 5, "{}", status.rebuilds());
}

/// A process dies while it writes a small set, and its slot keeps the small cell. The next set that is written there is a
/// large one: the slot gets a large cell, and gives the small one back. Then the same the other way round.
pub fn a_set_outgrows_its_cell() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let name = name("outgrows");
    let roles = pool(&name).capacity(2).clock(&clock).create().unwrap();
    let file = File::open(support::segment(&name)).unwrap();
    let in_use = || {
        [SHELVES[1], SHELVES[2]].map(|shelf| {
            let mut counts = [0; 16];
            file.read_exact_at(&mut counts, shelf).unwrap();
            let (made, free) = counts.split_at(8);
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
            number(made) - number(free)
        })
    };
    let role = roles.role(tenant(&sts, 1)).unwrap();
    let tokens = |bytes| sts.configure(Settings::new().token_bytes(bytes)).unwrap();
    let fetches = |bytes| {
        tokens(bytes);
        let set = role.refresh().unwrap();
        assert_of(&set, 1);
        assert_eq!(set.session_token().unwrap().len(), bytes);
        // Another process reads what is in the cells, and not what this one has in its memory.
        let other = SharedRoles::attach(&name).unwrap().role(tenant(&sts, 1)).unwrap();
        assert_eq!(other.status().unwrap().generation(), role.status().unwrap().generation());
        assert_eq!(other.credentials().unwrap().session_token(), set.session_token());
        until("the old set has no cell any more", || in_use().iter().sum::<u64>() == 1);
    };
    let dies_with = |bytes| {
        tokens(bytes);
        let mut writer = child(|_| {
            signal_at(FaultPoint::MidWrite, Signal::SIGKILL as i32);
            let _ = role.refresh();
        });
        assert!(matches!(writer.reap(), WaitStatus::Signaled(..)));
        // The back-off after a death is over.
        clock.advance(Duration::from_secs(60));
    };
    fetches(800);
    for _ in 0..3 {
        dies_with(900);
        assert_eq!(in_use(), [2, 0]);
        fetches(9000);
        assert_eq!(in_use(), [0, 1]);
        dies_with(9000);
        assert_eq!(in_use(), [0, 2]);
        // A small set leaves the slot its large cell.
        fetches(800);
        assert_eq!(in_use(), [0, 1]);
        fetches(16_384);
        assert_eq!(in_use(), [0, 1]);
        fetches(800);
        assert_eq!(in_use(), [1, 0]);
    }
    assert_eq!(roles.status().unwrap().rebuilds(), 0, "no cell was lost");
}

/// The lock file of the process that stops itself while it holds the lock of a pool.
static LOCK_FILE: OnceLock<String> = OnceLock::new();

/// Loses the byte of the pool's lock, as a process does when any of its code closes the file, and stops.
extern "C" fn lose_the_byte(_: i32) {
    drop(LOCK_FILE.get().map(File::open));
    let _ = raise(Signal::SIGSTOP);
}

/// The mark in the pool keeps the lock for a process that has lost its byte, as long as the process lives.
pub fn a_lock_without_its_byte_is_held() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("byte")).capacity(4).create().unwrap();
    let writer = child(|_| {
        LOCK_FILE.set(support::lock(roles.name())).unwrap();
        // SAFETY: the handler makes system calls only, and runs where this process calls `raise`.
        unsafe { signal(Signal::SIGUSR1, SigHandler::Handler(lose_the_byte)) }.unwrap();
        signal_at(FaultPoint::PoolKeyWritten, Signal::SIGUSR1 as i32);
        assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    });
    writer.stopped();
    let error = roles.role(tenant(&sts, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains(": a process has held the pool's lock for 5s"), "{error}");
    writer.signal(Signal::SIGCONT);
    writer.finish();
    for number in 1..3 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    let status = roles.status().unwrap();
    assert_eq!((status.insertions(), status.rebuilds()), (2, 0));
}

/// Readers beside writers that are killed at random instructions of insertions, evictions and publications.
pub fn kills_at_random_instructions() {
    kills(100);
}

/// The same for many writers: 10,000, or as `SHMCREDS_KILLS` says.
pub fn many_kills_at_random_instructions() {
    kills(soak("SHMCREDS_KILLS", 10_000));
}

fn kills(rounds: u64) {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("kills")).capacity(6).create().unwrap();
    let stop = StopFile::new(roles.name());
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let (roles, sts, stop) = (&roles, &sts, &stop);
            child(move |report| {
                let roles = SharedRoles::attach(roles.name()).unwrap();
                let mut reads = 0u64;
                while !stop.is_there() {
                    for number in [reader, 2, 3] {
                        // A death in a call is a failure of the call; it passes.
                        if let Ok(set) = roles.role(tenant(sts, number)).unwrap().credentials() {
                            assert_of(&set, number);
                            reads += 1;
                        }
                    }
                }
                report.say(reads.to_string());
            })
        })
        .collect();
    let (mut locked, mut elected) = (0, 0);
    for round in 0..rounds {
        let mut writer = child(|report| {
            let roles = SharedRoles::attach(roles.name()).unwrap();
            report.say(".");
            for number in (4..40).cycle() {
                let number = number + round as usize % 7;
                let role = roles.role(tenant(&sts, number));
                // A call takes most of the time. So half of the writers make none.
                if let Ok(role) = role
                    && round % 2 == 0
                {
                    let _ = role.refresh();
                }
                let _ = roles.evict(&tenant(&sts, number));
            }
        });
        writer.hear();
        // Spread over the milliseconds of some calls; no two runs are alike anyway.
        std::thread::sleep(Duration::from_micros(round * 7919 % 4000));
        let before = roles.status().unwrap().rebuilds();
        writer.signal(Signal::SIGKILL);
        assert!(matches!(writer.reap(), WaitStatus::Signaled(..)));
        let status = roles.status().unwrap();
        let was_elected = |entry: &RoleStatus| {
            entry
                .status()
                .lease_holder()
                .is_some_and(|holder| holder.pid() == writer.pid.as_raw() as u32)
        };
        elected += u64::from(status.entries().iter().any(was_elected));
        // The next process that takes the lock makes the index again, if the dead process had it.
        let number = 100 + round as usize;
        assert!(
            roles.role(tenant(&sts, number)).is_ok() && roles.evict(&tenant(&sts, number)).is_ok()
        );
        locked += roles.status().unwrap().rebuilds() - before;
        if round % 1000 == 999 {
            let _ = sts.clear_calls();
        }
    }
    let reads: u64 = stop.end(readers).iter().map(|said| said.parse::<u64>().unwrap()).sum();
    assert!(reads > 0);
    for number in 0..40 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().refresh().unwrap(), number);
    }
    let status = roles.status().unwrap();
    assert_eq!(status.entries().len(), 6);
    assert!(status.evictions() > rounds / 8, "{}", status.evictions());
    println!(
        "{rounds} kills: {locked} under the pool's lock, {elected} while elected; {} insertions, {} evictions, {reads} \
         reads of others",
        status.insertions(),
        status.evictions()
    );
}

/// The call of a tenant is on its way when the process dies: another one makes it, and other tenants do not notice.
pub fn the_elected_process_dies() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("dies")).create().unwrap();
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    let victim = child(|_| drop(roles.role(tenant(&sts, 1)).unwrap().credentials()));
    until("the call is made", || assumed(&sts) == 1);
    let others: Vec<_> = (0..3)
        .map(|_| {
            child(|report| {
                report.say(".");
                assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
            })
        })
        .map(|mut other| {
            other.hear();
            other.asleep();
            other
        })
        .collect();
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    victim.signal(Signal::SIGKILL);
    others.into_iter().for_each(|other| drop(other.finish()));
    assert_eq!(assumed(&sts), 3);
}

/// A process is stopped in the middle of its publication, past its lease. Its entry goes to another role. When it goes on,
/// it overwrites nothing.
pub fn a_stopped_process_does_not_overwrite() {
    for point in [FaultPoint::Elected, FaultPoint::Answered, FaultPoint::MidWrite] {
        let sts = LocalSts::fork().unwrap();
        let clock = ManualClock::new().unwrap();
        let roles = pool(&name("stopped")).capacity(1).clock(&clock).create().unwrap();
        let victim = child(|_| {
            let role = roles.role(tenant(&sts, 1)).unwrap();
            signal_at(point, Signal::SIGSTOP as i32);
            assert_of(&role.credentials().unwrap(), 1);
        });
        victim.stopped();
        clock.advance(Duration::from_secs(120));
        let other = roles.role(tenant(&sts, 2)).unwrap();
        let set = other.credentials().unwrap();
        assert_of(&set, 2);
        victim.signal(Signal::SIGCONT);
        // It gets an entry again, in place of the other one.
        victim.finish();
        assert_of(&other.credentials().unwrap(), 2);
        assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    }
}
