//! Each target over its seeds and some thousand inputs made of them, so that what fuzzing found stays found without a fuzzer.

use std::path::Path;

use super::*;

/// Inputs made for each target, where `TIDEGATE_FUZZ_INPUTS` does not say.
const INPUTS: usize = 1_500;

/// Numbers from a seed (SplitMix64): the same at each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

/// Some changes of one input by pieces of another.
fn mutated(numbers: &mut Numbers, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(input.len() + 1);
        match numbers.below(6) {
            0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
            1 if at < input.len() => input[at] = *[0, 1, 0x7f, 0x80, 0xff, b'\'', b'"', b'\\'].get(numbers.below(8)).unwrap(),
            2 => input.truncate(at),
            3 => {
                let end = (at + numbers.below(8)).min(input.len());
                drop(input.drain(at..end));
            }
            4 => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len() + 1);
                let to = (from + numbers.below(64)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => input.insert(at, u8::try_from(numbers.below(256)).unwrap()),
        }
    }
    input
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn each_target_takes_its_seeds_and_what_is_made_of_them() {
    let said = |name: &str| std::env::var(name).ok();
    let inputs = said("TIDEGATE_FUZZ_INPUTS").map_or(INPUTS, |inputs| inputs.parse().unwrap());
    let only = said("TIDEGATE_FUZZ_TARGET");
    for (name, target) in TARGETS
        .iter()
        .filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
    {
        let seeds = seeds(name);
        assert!(seeds.len() >= 2, "{name} has no seeds");
        for seed in &seeds {
            target(seed);
        }
        let mut numbers = Numbers(said("TIDEGATE_FUZZ_SEED").map_or(name.len() as u64, |seed| seed.parse().unwrap()));
        for _ in 0..inputs {
            target(&mutated(&mut numbers, &seeds));
        }
    }
}

#[test]
fn each_target_is_one_of_the_fuzzers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
        let source = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            source.contains(&format!("fuzzing::{name}(")),
            "{name} does not call its function"
        );
    }
}
