//! Environment variables with which a program connects, and their output formats.

use clap::ValueEnum;

use super::render;
use super::verification::{SslMode, VerificationVariables};
use crate::base::secret::Secret;
use crate::control::model::GrantLoginBody;

/// Notation of the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VariableFormat {
    /// `export NAME='value'`: sh, bash, zsh
    Sh,
    /// `set -gx NAME 'value'`
    Fish,
    /// `NAME='value'`
    Dotenv,
    /// One JSON object
    Json,
}

/// Variables for a program to connect with. A list of names and secrets, so that they cannot be printed whole by accident.
pub(super) struct ConnectionVariables(Vec<(&'static str, Secret<String>)>);

impl ConnectionVariables {
    pub(super) fn of(login: &GrantLoginBody, verification: &VerificationVariables) -> Self {
        let secret = |text: &str| Secret::new(text.to_owned());
        let mut all = vec![
            ("PGHOST", secret(&login.host)),
            ("PGPORT", secret(&login.port.to_string())),
            ("PGUSER", secret(&login.user)),
            ("PGPASSWORD", secret(&login.secret)),
            ("PGDATABASE", secret(&login.database)),
            ("PGSSLMODE", secret(&verification.sslmode.name())),
        ];
        let files = [
            ("PGSSLROOTCERT", &verification.root_certificates),
            ("NODE_EXTRA_CA_CERTS", &verification.node_certificates),
        ];
        all.extend(
            files
                .iter()
                .filter_map(|(name, file)| Some((*name, secret(&file.as_ref()?.to_string_lossy())))),
        );
        all.push((
            "DATABASE_URL",
            Secret::new(with_sslmode(&login.connection_string, verification.own)),
        ));
        Self(all)
    }

    /// Disables the gate's notice at the start of a session, in addition to the user's own PGOPTIONS.
    pub(super) fn without_welcome(mut self, own_options: Option<&str>) -> Self {
        let own = own_options.map(|own| format!("{own} ")).unwrap_or_default();
        self.0
            .push(("PGOPTIONS", Secret::new(format!("{own}-c tidegate.welcome=off"))));
        self
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.expose().as_str()))
    }

    pub(super) fn written(&self, format: VariableFormat) -> anyhow::Result<String> {
        let lines = |line: &dyn Fn(&str, &str) -> String| {
            let lines: Vec<String> = self.all().map(|(name, value)| line(name, value)).collect();
            lines.join("\n")
        };
        Ok(match format {
            VariableFormat::Sh => lines(&|name, value| format!("export {name}={}", sh(value))),
            VariableFormat::Fish => lines(&|name, value| format!("set -gx {name} {};", fish(value))),
            VariableFormat::Dotenv => lines(&|name, value| format!("{name}={}", dotenv(value))),
            VariableFormat::Json => {
                let all = self.all().map(|(name, value)| (name.to_owned(), value.into()));
                render::json(&serde_json::Value::Object(all.collect()))?
            }
        })
    }
}

/// Returns the gate's connection string, with the user's own sslmode if it is stricter. The gate uses `require`, since some
/// drivers know no more; drivers that follow libpq verify the certificate in that mode too once PGSSLROOTCERT is set.
fn with_sslmode(connection_string: &str, own: Option<SslMode>) -> String {
    const OF_GATE: &str = "sslmode=require";
    match own {
        Some(own) if own > SslMode::Require => connection_string.replace(OF_GATE, &format!("sslmode={}", own.name())),
        _ => connection_string.to_owned(),
    }
}

pub(super) fn sh(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

pub(super) fn fish(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Quotes a value for a dotenv file. Single quotes are literal in every reader of these files; a value that contains one needs
/// double quotes.
pub(super) fn dotenv(value: &str) -> String {
    if value.contains('\'') {
        let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('$', r"\$");
        format!("\"{escaped}\"")
    } else {
        format!("'{value}'")
    }
}
