//! A hostile process of the same user overwrites the pool at random: never a foreign set, never a torn one.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use shmcreds::{SharedRoles, testing::LocalSts};

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
    let sts = LocalSts::fork().unwrap();
    let pool_name = name("hostile");
    let roles = pool(&pool_name)
        .capacity(12)
        .wait_timeout(std::time::Duration::from_secs(2))
        .create()
        .unwrap();
    for number in 0..12 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    let stop = StopFile::new(roles.name());
    let users: Vec<_> = (0..4u64)
        .map(|user| {
            let (pool_name, sts, stop) = (&pool_name, &sts, &stop);
            child(move |report| {
                let roles = SharedRoles::attach(pool_name).unwrap();
                let (mut random, mut reads) = (Random(user + 1), 0u64);
                while !stop.is_there() {
                    let number = random.below(14) as usize;
                    let Ok(role) = roles.role(tenant(sts, number)) else { continue };
                    let outcome = match random.below(100) {
                        0 => role.refresh(),
                        1 => {
                            let _ = roles.evict(&tenant(sts, number));
                            continue;
                        }
                        _ => role.credentials(),
                    };
                    match outcome {
                        Ok(set) => {
                            assert_of(&set, number);
                            reads += 1;
                        }
                        // Another program has damaged the pool: a read may fail.
                        Err(error) => drop(error),
                    }
                }
                report.say(reads.to_string());
            })
        })
        .collect();
    let file =
        OpenOptions::new().read(true).write(true).open(support::segment(&pool_name)).unwrap();
    let words = file.metadata().unwrap().len() / 8;
    let mut random = Random(0x1234_5678_9abc_def1);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::time::Instant::now() < end {
        // Not the header page: a process that attaches later would refuse it.
        let (from, to) = (random.below(words), 512 + random.below(words - 512 - 64));
        let mut bytes = vec![0; 8 * (1 + random.below(64) as usize)];
        if random.below(4) == 0 {
            bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
        } else if file.read_exact_at(&mut bytes, from * 8).is_err() {
            continue;
        }
        file.write_all_at(&bytes, to * 8).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    let reads: u64 = stop.end(users).iter().map(|said| said.parse::<u64>().unwrap()).sum();
    assert!(reads > 100, "{reads}");
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
