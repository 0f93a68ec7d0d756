//! Each target over its seeds and some thousand inputs made of them, so that what fuzzing found stays found without a fuzzer.

use std::path::Path;

use super::testing::{Numbers, inputs};
use super::*;

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
    let only = std::env::var("TIDEGATE_FUZZ_TARGET").ok();
    for (name, target) in TARGETS
        .iter()
        .filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
    {
        let seeds = seeds(name);
        assert!(seeds.len() >= 2, "{name} has no seeds");
        for seed in &seeds {
            target(seed);
        }
        let mut numbers = Numbers::new(name.len() as u64);
        for _ in 0..inputs() {
            target(&numbers.mutated(&seeds));
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
