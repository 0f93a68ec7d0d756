//! Inputs made of others by changes, for tests that need no fuzzer: the same at each run.

/// Number of inputs made where `TIDEGATE_FUZZ_INPUTS` does not say.
const INPUTS: usize = 1_500;

/// Returns the number of inputs to make.
pub(crate) fn inputs() -> usize {
    std::env::var("TIDEGATE_FUZZ_INPUTS").map_or(INPUTS, |inputs| inputs.parse().unwrap())
}

/// Numbers from a seed (`SplitMix64`).
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Begins with `TIDEGATE_FUZZ_SEED`, or else with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(std::env::var("TIDEGATE_FUZZ_SEED").map_or(seed, |seed| seed.parse().unwrap()))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below the end.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    /// Returns some changes of one seed by pieces of another.
    pub(crate) fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            match self.below(6) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = *[0, 1, 0x7f, 0x80, 0xff, b'\'', b'"', b'\\'].get(self.below(8)).unwrap(),
                2 => input.truncate(at),
                3 => {
                    let end = (at + self.below(8)).min(input.len());
                    drop(input.drain(at..end));
                }
                4 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(64)).min(other.len());
                    input.splice(at..at, other[from..to].iter().copied());
                }
                _ => input.insert(at, u8::try_from(self.below(256)).unwrap()),
            }
        }
        input
    }

    /// Returns a changed text that has no control characters, so that it can be the value of a header.
    pub(crate) fn mutated_text(&mut self, seeds: &[&str]) -> String {
        let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
        let text = String::from_utf8_lossy(&self.mutated(&seeds)).into_owned();
        text.replace(|character: char| character.is_control(), "")
    }
}
