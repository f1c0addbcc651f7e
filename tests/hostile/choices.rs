//! What a fuzzer's bytes decide: the same reading of them for property tests and for `cargo fuzz`.

/// Bytes, read from the front. When they are used up, all further choices are 0.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// True for odd bytes.
    pub fn yes(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.byte()))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = u32::from_le_bytes([(); 4].map(|()| self.byte()));
        wide as usize % end.max(1)
    }

    /// One of `all`.
    pub fn one<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// At most `most` of the bytes that are left.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.byte()).min(most).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A word that programs are likely to stumble over.
    pub fn word(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => self.number(),
            1 => 0,
            2 => u64::MAX,
            3 => i64::MAX as u64,
            4 => 1 << 63,
            5 => 1 << self.below(64),
            6 => u64::from(u32::MAX),
            _ => u64::from(self.byte()),
        }
    }

    /// `valid` with a few bytes changed, left out, put in or said twice.
    pub fn mutated(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        for _ in 0..self.byte() % 8 {
            let at = self.below(bytes.len() + 1);
            match self.byte() % 5 {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at..at, self.bytes(32).iter().copied())),
                2 => drop(bytes.drain(at..(at + usize::from(self.byte())).min(bytes.len()))),
                3 => {
                    let said = bytes[at..(at + usize::from(self.byte())).min(bytes.len())].to_vec();
                    let said = said.repeat(usize::from(self.byte()));
                    drop(bytes.splice(at..at, said));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.byte();
                    }
                }
            }
        }
        bytes
    }
}
