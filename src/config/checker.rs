//! Tools of the checks: they collect mistakes, read the named files, and resolve relative paths.
//!
//! It knows no key: [`mod@super::check`] and the tables do.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::mistake::ConfigMistake;
use super::reader::KeyLines;

pub(super) struct SettingsChecker<'a> {
    path: &'a Path,
    pub(super) base: BaseFolder<'a>,
    /// Line of each key in the file.
    places: &'a KeyLines,
    mistakes: &'a mut Vec<ConfigMistake>,
    /// Files with secrets that are readable by others than their owner and group.
    pub(super) exposed: Vec<PathBuf>,
}

impl<'a> SettingsChecker<'a> {
    pub(super) fn new(path: &'a Path, places: &'a KeyLines, mistakes: &'a mut Vec<ConfigMistake>) -> Self {
        Self {
            path,
            base: BaseFolder::of(path),
            places,
            mistakes,
            exposed: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, key: &str, reason: impl Into<String>, remedy: &str) {
        // A key that is not written is reported at the nearest enclosing table that is.
        let mut place = key;
        let line = loop {
            match (self.places.get(place), place.rsplit_once('.')) {
                (Some(line), _) => break Some(*line),
                (None, Some((table, _))) => place = table,
                (None, None) => break None,
            }
        };
        let mistake = ConfigMistake::new(self.path, line, Some(key.to_owned()), reason);
        self.mistakes
            .push(if remedy.is_empty() { mistake } else { mistake.remedy(remedy) });
    }

    /// Notes a file with a secret that every user of the machine may read.
    pub(super) fn guarded(&mut self, path: &Path) {
        const OTHERS_READ: u32 = 0o004;
        let open = std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_READ != 0);
        if open && !self.exposed.contains(&path.to_owned()) {
            self.exposed.push(path.to_owned());
        }
    }

    pub(super) fn readable(&mut self, key: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                let remedy = "set a file that the gate can read (relative paths start at the configuration's folder)";
                self.note(key, format!("cannot read {}: {error}", path.display()), remedy);
                None
            }
        }
    }
}

/// Folder that relative paths are resolved against.
pub(super) struct BaseFolder<'a>(pub(super) &'a Path);

impl<'a> BaseFolder<'a> {
    pub(super) fn of(file: &'a Path) -> Self {
        Self(file.parent().unwrap_or_else(|| Path::new("")))
    }

    pub(super) fn join(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    pub(super) fn or_in(&self, named: Option<&PathBuf>, dir: &Path, usual: &str) -> PathBuf {
        named.map_or_else(|| dir.join(usual), |path| self.join(path))
    }
}
