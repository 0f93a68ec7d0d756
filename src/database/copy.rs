//! Databases of grants, each a copy of a template: their names, and the SQL that makes them.
//!
//! It connects to nothing. INVARIANT: a name is of one grant and one gate, and says both, so that no gate drops another's, also where
//! a copy has nothing else to tell whose it is.

use crate::database::rights::{quoted, quoted_text};
use crate::model::ids::{GrantId, LogId};

/// Version that knows `STRATEGY`.
const STRATEGY_VERSION: u32 = 150_000;
/// Version that knows `file_copy_method`.
const CLONE_VERSION: u32 = 180_000;

/// Template of the databases of a profile's grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// Name of the template.
    pub template: String,
    /// Way in which it is copied.
    pub strategy: CopyStrategy,
}

/// Way in which PostgreSQL copies a template (`CREATE DATABASE ... STRATEGY`, PostgreSQL 15 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStrategy {
    /// As files where the server is set to clone them (`file_copy_method`, PostgreSQL 18), otherwise the server's own choice.
    Auto,
    /// Block by block through the log: no checkpoint, and more log.
    WalLog,
    /// As files, between two checkpoints.
    FileCopy,
    /// As files that share their blocks, where the file system can (PostgreSQL 18 and later; before it, as files).
    Clone,
}

/// Returns the name of a grant's database: `<grant>_<gate>`.
#[must_use]
pub fn copy_name(grant: &GrantId, gate: &LogId) -> String {
    format!("{grant}_{gate}")
}

/// Returns the grant and the gate of a database with such a name.
#[must_use]
pub fn owner_of(name: &str) -> Option<(GrantId, LogId)> {
    let (grant, gate) = name.split_once("_lg_")?;
    Some((grant.parse().ok()?, format!("lg_{gate}").parse().ok()?))
}

/// Returns the statements that make a copy into which nobody can connect yet, each to be run by itself. `version` is the server's
/// number of version, `clones` true if it clones files by default.
#[must_use]
pub fn create(name: &str, source: &CopySource, version: u32, clones: bool) -> Vec<String> {
    let by_files = match source.strategy {
        CopyStrategy::Auto => clones.then_some("FILE_COPY"),
        CopyStrategy::WalLog => Some("WAL_LOG"),
        CopyStrategy::FileCopy | CopyStrategy::Clone => Some("FILE_COPY"),
    };
    let strategy = by_files.filter(|_| version >= STRATEGY_VERSION);
    let strategy = strategy.map(|word| format!(" STRATEGY {word}")).unwrap_or_default();
    let mut statements = Vec::new();
    if source.strategy == CopyStrategy::Clone && version >= CLONE_VERSION {
        statements.push("SET file_copy_method = clone".to_owned());
    }
    statements.push(format!(
        "CREATE DATABASE {} TEMPLATE {}{strategy} ALLOW_CONNECTIONS false",
        quoted(name),
        quoted(&source.template)
    ));
    statements
}

/// Returns the SQL that opens a copy to the role of its grant and to nobody else: `CREATE DATABASE` gives every role of the server
/// the right to connect. `holder` is the role of the profile, in which sessions may start; it gets no right to connect, which all
/// grants of the profile would have.
#[must_use]
pub fn open(name: &str, role: &str, holder: &str, comment: &str) -> String {
    let (name, role, holder) = (quoted(name), quoted(role), quoted(holder));
    format!(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {role}; \
         GRANT TEMPORARY ON DATABASE {name} TO {holder}; COMMENT ON DATABASE {name} IS {}; \
         ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true",
        quoted_text(comment)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        let (grant, gate) = (GrantId::from_random([1; 10]), LogId::from_random([2; 10]));
        let name = copy_name(&grant, &gate);
        assert_eq!(name, "gr_1111111111_lg_2222222222");
        assert_eq!(owner_of(&name), Some((grant, gate)));
        for name in [
            "shop",
            "gr_1111111111",
            "gr_1111111111_lg_",
            "gr_1_lg_2222222222",
            "x_lg_2222222222",
            "",
        ] {
            assert_eq!(owner_of(name), None, "{name}");
        }
    }

    #[test]
    fn each_version_gets_what_it_knows() {
        let made = |strategy, version, clones| {
            let source = CopySource {
                template: "shop \"golden\"".to_owned(),
                strategy,
            };
            create("c", &source, version, clones).join("; ")
        };
        let plain = r#"CREATE DATABASE "c" TEMPLATE "shop ""golden""""#;
        let shut = "ALLOW_CONNECTIONS false";
        assert_eq!(made(CopyStrategy::Auto, 150_004, false), format!("{plain} {shut}"));
        assert_eq!(
            made(CopyStrategy::Auto, 180_000, true),
            format!("{plain} STRATEGY FILE_COPY {shut}")
        );
        assert_eq!(made(CopyStrategy::WalLog, 140_000, false), format!("{plain} {shut}"));
        assert_eq!(
            made(CopyStrategy::WalLog, 150_000, false),
            format!("{plain} STRATEGY WAL_LOG {shut}")
        );
        assert_eq!(
            made(CopyStrategy::Clone, 170_000, false),
            format!("{plain} STRATEGY FILE_COPY {shut}")
        );
        assert_eq!(
            made(CopyStrategy::Clone, 180_000, false),
            format!("SET file_copy_method = clone; {plain} STRATEGY FILE_COPY {shut}")
        );
    }

    #[test]
    fn only_its_grant_may_enter() {
        let sql = open("c", "gr_1_ana", "tg_shop_rw", "it's");
        assert!(sql.starts_with("REVOKE ALL ON DATABASE \"c\" FROM PUBLIC;"), "{sql}");
        assert!(
            sql.contains("GRANT CONNECT, TEMPORARY ON DATABASE \"c\" TO \"gr_1_ana\";"),
            "{sql}"
        );
        assert!(!sql.contains("CONNECT ON DATABASE \"c\" TO \"tg_shop_rw\""), "{sql}");
        assert!(sql.contains("'it''s'"), "{sql}");
    }
}
