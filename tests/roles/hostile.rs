//! A hostile process of the same user overwrites the pool at random: never a foreign set, never a torn one.

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use shmcreds::{
    Error, SharedRoles,
    testing::{LocalSts, ManualClock, Settings},
};

use crate::{
    assert_of, pool,
    support::{self, StopFile, child, name},
    tenant,
};

/// A small generator, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Readers, refreshes, evictions and insertions of 14 tenants in 12 entries, beside a writer that copies words of the pool
/// to other places of it, and random ones. Reads may fail; what they give is always the tenant's own set.
pub fn never_a_foreign_set() {
    let told = attack(READS, support::LIMIT);
    assert!(told.reads >= READS, "{}", told.reads);
}

/// The same for many reads: 10^8, or as `SHMCREDS_READS` says.
pub fn never_a_foreign_set_in_many_reads() {
    let told = attack(soak("SHMCREDS_READS", 100_000_000), Duration::MAX);
    let Told { reads, sets, errors, refreshes, evictions, opened, overwritten } = told;
    println!(
        "{reads} reads of {sets} sets by {USERS} processes: 0 foreign sets, 0 torn sets, {errors} errors; {refreshes} \
         refreshes, {evictions} evictions, {opened} times opened again, {overwritten} words overwritten"
    );
}

/// The number in a variable, for a long check.
pub fn soak(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Reads of the short check, with refreshes, evictions and insertions between them.
const READS: u64 = 400_000;
const USERS: u64 = 4;
const TENANTS: u64 = 14;

/// What the processes have done. Each read was of the own tenant's whole set.
#[derive(Default)]
struct Told {
    reads: u64,
    /// Sets that differ from the last one of the tenant, and were checked from the first to the last letter.
    sets: u64,
    /// Reads that gave an error.
    errors: u64,
    refreshes: u64,
    evictions: u64,
    /// How often a process opened the pool again, and so decoded all sets again.
    opened: u64,
    /// Words that the hostile process has overwritten.
    overwritten: u64,
}

fn attack(reads: u64, time: Duration) -> Told {
    let sts = LocalSts::fork().unwrap();
    let pool_name = name("hostile");
    let roles =
        pool(&pool_name).capacity(12).wait_timeout(Duration::from_secs(2)).create().unwrap();
    for number in 0..12 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    let stop = StopFile::new(roles.name());
    let users: Vec<_> = (0..USERS)
        .map(|user| {
            let (pool_name, sts, stop) = (&pool_name, &sts, &stop);
            child(move |report| {
                let told =
                    use_pool(pool_name, sts, user, || stop.is_there(), reads.div_ceil(USERS));
                let Told { reads, sets, errors, refreshes, evictions, opened, .. } = told;
                report.say(format!("{reads} {sets} {errors} {refreshes} {evictions} {opened}"));
            })
        })
        .collect();
    let work = || users.iter().any(|user| support::lives(user.pid));
    let overwritten = overwrite(&pool_name, &sts, time, work);
    // Where it had no more time, the others have some.
    support::until("the reads are done", || !work());
    let mut all = Told { overwritten, ..Told::default() };
    for said in stop.end(users) {
        let mut numbers = said.split(' ').map(|word| word.parse::<u64>().unwrap());
        let sums = [
            &mut all.reads,
            &mut all.sets,
            &mut all.errors,
            &mut all.refreshes,
            &mut all.evictions,
            &mut all.opened,
        ];
        sums.into_iter().for_each(|sum| *sum += numbers.next().unwrap());
    }
    all
}

/// Reads so many times, or until it is told to stop. Panics when a set is not the tenant's own.
fn use_pool(name: &str, sts: &LocalSts, user: u64, stop: impl Fn() -> bool, reads: u64) -> Told {
    let (mut random, mut told) = (Random(user + 1), Told::default());
    let mut roles = SharedRoles::attach(name).unwrap();
    // The last set of each tenant, which was checked.
    let mut last: Vec<Option<Credentials>> = vec![None; TENANTS as usize];
    while told.reads < reads && !stop() {
        if random.below(16) == 0 {
            roles = SharedRoles::attach(name).unwrap();
            told.opened += 1;
        }
        let number = random.below(TENANTS) as usize;
        let Ok(role) = roles.role(tenant(sts, number)) else { continue };
        let mut check = |outcome: Result<Credentials, Error>| match outcome {
            Ok(set) => {
                let known = last[number].as_ref();
                if !known.is_some_and(|known| is_same(known, &set)) {
                    assert_of(&set, number);
                    last[number] = Some(set);
                    told.sets += 1;
                }
                told.reads += 1;
                true
            }
            // Another program has damaged the pool: a read may fail.
            Err(_) => {
                told.errors += 1;
                false
            }
        };
        match random.below(32) {
            0 => {
                check(role.refresh());
                told.refreshes += 1;
            }
            1 => told.evictions += u64::from(roles.evict(&tenant(sts, number)).unwrap_or(false)),
            _ => {
                let many = random.below(4000);
                let _ = (0..many).all(|_| check(role.credentials()));
            }
        }
    }
    told
}

/// Whether all fields are equal: a set that is equal to a checked one is checked.
fn is_same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id()
        && one.secret_access_key() == other.secret_access_key()
        && one.session_token() == other.session_token()
}

/// Overwrites random words of the pool, for some time or until there is no more `work`. Tells how many.
fn overwrite(name: &str, sts: &LocalSts, time: Duration, work: impl Fn() -> bool) -> u64 {
    let file = OpenOptions::new().read(true).write(true).open(support::segment(name)).unwrap();
    let words = file.metadata().unwrap().len() / 8;
    let (mut random, began) = (Random(0x1234_5678_9abc_def1), Instant::now());
    let (mut overwritten, mut round) = (0, 0u64);
    while began.elapsed() < time && work() {
        // Not the header page: a process that attaches later would refuse it.
        let (from, to) = (random.below(words), 512 + random.below(words - 512 - 64));
        let mut bytes = vec![0; 8 * (1 + random.below(64) as usize)];
        if random.below(4) == 0 {
            bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
        } else if file.read_exact_at(&mut bytes, from * 8).is_err() {
            continue;
        }
        file.write_all_at(&bytes, to * 8).unwrap();
        overwritten += bytes.len() as u64 / 8;
        round += 1;
        // The log of a long check would take all memory.
        if round.is_multiple_of(1000) {
            let _ = sts.clear_calls();
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    overwritten
}

/// The record, the cell and the version of one tenant in the place of another's.
pub fn forged_words() {
    let sts = LocalSts::fork().unwrap();
    let pool_name = name("forged");
    let roles = pool(&pool_name).capacity(8).create().unwrap();
    let set = |number| roles.role(tenant(&sts, number)).unwrap().credentials().unwrap();
    let (one, two) = (set(1), set(2));
    let file =
        OpenOptions::new().read(true).write(true).open(support::segment(&pool_name)).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let place = |id: &str| bytes.windows(id.len()).position(|at| at == id.as_bytes()).unwrap();
    // Cells lie at multiples of 2,048 bytes from each other.
    let (from, to) = (place(one.access_key_id()), place(two.access_key_id()));
    assert_eq!(from.abs_diff(to) % 2048, 0);
    // The whole cell of tenant 1 over that of tenant 2, with a sequence that fits.
    let head = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let cell = |at: usize| {
        (0..=at).rev().find(|p| at - p < 2048 && head(*p) & 0xffff == 1 && p % 8 == 0).unwrap()
    };
    let (cell_one, cell_two) = (cell(from), cell(to));
    let mut forged = bytes[cell_one..cell_one + 1024].to_vec();
    forged[..8].copy_from_slice(&bytes[cell_two..cell_two + 8]);
    file.write_all_at(&forged, cell_two as u64).unwrap();
    // A process that has no copy of the set reads the pool, refuses the record, and fetches the set again.
    child(|_| {
        let roles = SharedRoles::attach(&pool_name).unwrap();
        let again = roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap();
        assert_of(&again, 2);
        assert_ne!(again.access_key_id(), two.access_key_id(), "it had to be fetched again");
        assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    })
    .finish();
    assert_eq!(support::assumed(&sts), 3);
}

/// Where the counts of entries, of small cells and of large cells are: how many were ever taken, and how many of them are
/// in the list of free ones.
pub const SHELVES: [u64; 3] = [4096 + 256, 4096 + 384, 4096 + 512];

/// The lists tell that nothing is free, although something is.
pub fn damaged_lists() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let pool_name = name("lists");
    let roles = pool(&pool_name).capacity(2).clock(&clock).create().unwrap();
    let file = OpenOptions::new().write(true).open(support::segment(&pool_name)).unwrap();
    let damage = |shelf: usize| {
        // No pool has so many: that counts as all of them.
        let counts = [u64::MAX.to_le_bytes(), [0; 8]].concat();
        file.write_all_at(&counts, SHELVES[shelf]).unwrap();
    };
    let set =
        |number| assert_of(&roles.role(tenant(&sts, number)).unwrap().refresh().unwrap(), number);
    let rebuilds = || roles.status().unwrap().rebuilds();
    set(1);
    clock.advance(Duration::from_secs(60));
    set(2);
    // The entry that was used least recently is free.
    assert!(roles.evict(&tenant(&sts, 1)).unwrap());
    damage(0);
    set(3);
    let status = roles.status().unwrap();
    assert_eq!((status.rebuilds(), status.evictions()), (1, 1), "no role lost its entry");
    damage(1);
    set(2);
    assert_eq!(rebuilds(), 2);
    damage(2);
    sts.configure(Settings::new().token_bytes(9000)).unwrap();
    set(2);
    assert_eq!(rebuilds(), 3);
    // What was made again is right: nothing is lost, and nothing is given away twice.
    for _ in 0..20 {
        [2, 3].into_iter().for_each(set);
    }
    let read = |number| {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number)
    };
    [2, 3].into_iter().for_each(read);
    assert_eq!(rebuilds(), 3);
}
