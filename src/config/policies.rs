//! Reads a folder of policies: `schema.cedarschema`, the `*.cedar` files beside it, and the test tables in `tests/`.
//!
//! The texts are not interpreted here; `policy` does that.

use std::path::{Path, PathBuf};

use crate::access::policy::PolicyFile;

/// Default folder of the policies, beside the configuration.
pub const DEFAULT_DIR: &str = "policies";

/// Name of the schema's file in the folder.
const SCHEMA_FILE: &str = "schema.cedarschema";

/// Maximum size of a file in bytes. No policy file is nearly as long; a device or a dump would be.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Error of reading a folder of policies.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFolderError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read: {error}; a policy folder contains {SCHEMA_FILE} and *.cedar files", .path.display())]
    Unreadable {
        /// Path of the file or folder.
        path: PathBuf,
        /// Reason from the operating system.
        error: std::io::Error,
    },
    /// A file is longer than any policy file would be.
    #[error("{}: is longer than 4 MiB; policy files are shorter", .path.display())]
    TooLong {
        /// Path of the file.
        path: PathBuf,
    },
    /// The folder contains no policies.
    #[error("{}: the folder has no *.cedar file, so every request would be denied; add a policy", .path.display())]
    Empty {
        /// Path of the folder.
        path: PathBuf,
    },
}

/// Reads the schema and the policies of a folder, named by their files, in the order of the names.
pub fn read(dir: &Path) -> Result<(PolicyFile, Vec<PolicyFile>), PolicyFolderError> {
    let schema = source(&dir.join(SCHEMA_FILE))?;
    let policies = all(dir, "cedar")?;
    if policies.is_empty() {
        return Err(PolicyFolderError::Empty { path: dir.to_owned() });
    }
    Ok((schema, policies))
}

/// Reads the test tables of a folder of policies, `tests/*.toml`; there are none if the folder does not exist.
pub fn read_tables(dir: &Path) -> Result<Vec<PolicyFile>, PolicyFolderError> {
    let tests = dir.join("tests");
    if !tests.exists() {
        return Ok(Vec::new());
    }
    all(&tests, "toml")
}

/// Reads all files of a folder with this extension. Hidden files are skipped: they belong to editors.
fn all(dir: &Path, extension: &str) -> Result<Vec<PolicyFile>, PolicyFolderError> {
    let unreadable = |error| PolicyFolderError::Unreadable {
        path: dir.to_owned(),
        error,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| source(path)).collect()
}

fn source(path: &Path) -> Result<PolicyFile, PolicyFolderError> {
    let unreadable = |error| PolicyFolderError::Unreadable {
        path: path.to_owned(),
        error,
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
        return Err(PolicyFolderError::TooLong { path: path.to_owned() });
    }
    Ok(PolicyFile {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        text: std::fs::read_to_string(path).map_err(unreadable)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("schema.cedarschema", "s"),
            ("b.cedar", "b"),
            ("a.cedar", "a"),
            (".a.cedar.swp", "x"),
            (".hidden.cedar", "x"),
            ("README.md", "x"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let (schema, policies) = read(dir.path()).unwrap();
        assert_eq!(schema.text, "s");
        let names: Vec<_> = policies.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["a.cedar", "b.cedar"]);
        assert!(read_tables(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("schema.cedarschema: cannot be read: No such file"), "{error}");
        std::fs::write(dir.path().join("schema.cedarschema"), "").unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no *.cedar file"), "{error}");
    }
}
