//! One throwaway PostgreSQL server.
//!
//! It does not install PostgreSQL, and does not survive the process that started it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use super::binaries::{Account, server_account};
use super::gate::free_port;
use super::keeper::{Keeper, Run};
use super::scratch::Scratch;
use super::{Binaries, LabError};
use crate::secret::Secret;

/// Another process may take the port between our look at it and the server's bind.
const ATTEMPTS: u32 = 5;
/// How often a killed server's children may still be in the way of the next start ...
const CHILDREN: u32 = 200;
/// ... and how long after one look the next one comes.
const LOOK: Duration = Duration::from_millis(50);
const SUPERUSER: &str = "postgres";

/// What the server runs: `$1` its binaries, `$2` its folder, `$3` how it authenticates.
const START: &str = r#"
"$1/initdb" -D "$2/data" -U postgres --pwfile="$2/password" -A "$3" -E UTF8 --locale=C --no-sync || exit 1
cat "$2/lab.conf" >>"$2/data/postgresql.conf"
cat "$2/lab.hba" >"$2/data/pg_hba.conf"
exec "$1/postgres" -D "$2/data"
"#;

/// How the server authenticates who comes over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// SCRAM-SHA-256 (and -PLUS over TLS).
    #[default]
    Scram,
    /// The old MD5 challenge; passwords are stored as MD5.
    Md5,
    /// The password in clear.
    Password,
    /// Everybody is believed.
    Trust,
}

/// Whether the server speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// It does not.
    #[default]
    Off,
    /// To who asks.
    Offered,
    /// To everybody: connections in clear are refused.
    Required,
}

/// What kind of server to start. The default is a plain one with SCRAM.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How it authenticates.
    pub auth: Auth,
    /// Whether it speaks TLS; its certificate is for `localhost` and 127.0.0.1, see [`Postgres::ca_file`].
    pub tls: Tls,
    /// Lines that go before all others into `pg_hba.conf`.
    pub hba: Vec<String>,
    /// Settings for `postgresql.conf`, names and plain values.
    pub settings: Vec<(String, String)>,
    /// Which binaries; found by [`Binaries::find`] if not given.
    pub binaries: Option<Binaries>,
}

/// A running server. On drop it is stopped and every trace of it removed; also when this process dies.
#[derive(Debug)]
pub struct Postgres {
    // Dropped before the keeper of the folder, in which it runs.
    again: Option<Keeper>,
    keeper: Keeper,
    account: Option<Account>,
    binaries: Binaries,
    port: u16,
    password: Secret<String>,
}

impl Postgres {
    /// Starts a server and waits until it takes connections (about half a second; blocks the calling thread).
    pub fn start(options: &Options) -> Result<Self, LabError> {
        let binaries = options.binaries.clone().map_or_else(Binaries::find, Ok)?;
        let account = server_account()?;
        let mut last = Self::attempt(options, &binaries, account);
        for _ in 1..ATTEMPTS {
            match &last {
                Err(LabError::Ended { log, .. }) if log.contains("Address already in use") => {}
                _ => break,
            }
            last = Self::attempt(options, &binaries, account);
        }
        last
    }

    fn attempt(options: &Options, binaries: &Binaries, account: Option<Account>) -> Result<Self, LabError> {
        let scratch = Scratch::new(account)?;
        let port = free_port()?;
        let password = random_password()?;
        scratch.write("password", password.expose())?;
        scratch.write("lab.conf", &configuration(options, port, scratch.path()))?;
        scratch.write("lab.hba", &access(options))?;
        if options.tls != Tls::Off {
            make_certificates(&scratch)?;
        }
        let (bin, folder) = (
            binaries.folder().to_string_lossy(),
            scratch.path().to_string_lossy().into_owned(),
        );
        let mut keeper = Keeper::start(
            scratch,
            &Run {
                what: "PostgreSQL",
                // Immediate shutdown: what it would write down is thrown away.
                signal: "QUIT",
                account,
                command: &["/bin/sh", "-c", START, "start", &bin, &folder, options.auth.method()],
                environment: &[("LC_ALL", "C"), ("TZ", "UTC")],
            },
        )?;
        keeper.wait_until(|home| ready(home, home))?;
        Ok(Self {
            again: None,
            keeper,
            account,
            binaries: binaries.clone(),
            port,
            password,
        })
    }

    /// `kill -9` of the postmaster: as a crash of the server. Blocks until it is dead; its children notice and go by themselves.
    pub fn kill(&self) -> Result<(), LabError> {
        self.end(Signal::KILL)
    }

    /// Stops it in order, sessions included (fast shutdown). Blocks until it has stopped.
    pub fn stop(&self) -> Result<(), LabError> {
        self.end(Signal::INT)
    }

    /// Starts it again on the same data and the same port, after [`Postgres::kill`] or [`Postgres::stop`], and waits until it takes
    /// connections.
    pub fn start_again(&mut self) -> Result<(), LabError> {
        for _ in 0..CHILDREN {
            self.again = None;
            match self.attempt_again() {
                // Children of the one that was killed are still there: no server starts beside them.
                Err(LabError::Ended { log, .. }) if log.contains("pre-existing shared memory block") => {
                    std::thread::sleep(LOOK);
                }
                done => return done.map(|keeper| self.again = Some(keeper)),
            }
        }
        self.attempt_again().map(|keeper| self.again = Some(keeper))
    }

    fn attempt_again(&self) -> Result<Keeper, LabError> {
        let (bin, home) = (self.binaries.folder().to_string_lossy(), self.folder());
        let mut keeper = Keeper::start(
            Scratch::new(self.account)?,
            &Run {
                what: "PostgreSQL",
                signal: "QUIT",
                account: self.account,
                command: &[&format!("{bin}/postgres"), "-D", &home.join("data").to_string_lossy()],
                environment: &[("LC_ALL", "C"), ("TZ", "UTC")],
            },
        )?;
        keeper.wait_until(|run| ready(home, run))?;
        Ok(keeper)
    }

    fn end(&self, signal: Signal) -> Result<(), LabError> {
        let run = self.again.as_ref().unwrap_or(&self.keeper);
        run.signal(signal)?;
        run.wait_for_its_end()
    }

    /// Where it listens: 127.0.0.1 and a free port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of its superuser.
    #[must_use]
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &Secret<String> {
        &self.password
    }

    /// Its own folder; also where its Unix socket is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.keeper.folder()
    }

    /// What it has written to its log: at first, and since it was last started again.
    #[must_use]
    pub fn log(&self) -> String {
        let runs = std::iter::once(&self.keeper).chain(&self.again);
        let log = runs.flat_map(|run| std::fs::read(run.log()).unwrap_or_default());
        String::from_utf8_lossy(&log.collect::<Vec<_>>()).into_owned()
    }

    /// The certificate authority its certificate is from (PEM); only there if [`Options::tls`] is on.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder().join("ca.crt")
    }

    /// The binaries it runs.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// A connection as superuser, past any gate, through its Unix socket. Its driver runs as a task of the current runtime.
    pub async fn client(&self, database: &str) -> Result<tokio_postgres::Client, LabError> {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(self.folder())
            .port(self.port)
            .user(SUPERUSER)
            .dbname(database)
            .application_name("tidegate-lab")
            .connect(tokio_postgres::NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs a script as superuser; it may hold many statements, but not such as cannot be in a transaction (`CREATE DATABASE`)
    /// beside others.
    pub async fn batch(&self, database: &str, script: &str) -> Result<(), LabError> {
        Ok(self.client(database).await?.batch_execute(script).await?)
    }
}

impl Auth {
    /// Its name in `pg_hba.conf`.
    fn method(self) -> &'static str {
        match self {
            Self::Scram => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Trust => "trust",
        }
    }
}

/// The eighth line of `postmaster.pid` is the server's status, as `pg_ctl` reads it (src/include/utils/pidfile.h); the first one
/// is whose: one that was killed has left its file. A standby that takes no sessions is as ready as it gets. `home` has the data, `run` is the folder of the run's keeper.
fn ready(home: &Path, run: &Path) -> bool {
    let Ok(file) = std::fs::read_to_string(home.join("data/postmaster.pid")) else {
        return false;
    };
    let line = |at| file.lines().nth(at).unwrap_or_default().trim();
    matches!(line(7), "ready" | "standby") && std::fs::read_to_string(run.join("pid")).is_ok_and(|pid| pid.trim() == line(0))
}

fn configuration(options: &Options, port: u16, folder: &Path) -> String {
    let socket = folder.to_string_lossy();
    let port = port.to_string();
    let encryption = if options.auth == Auth::Md5 { "md5" } else { "scram-sha-256" };
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", &socket),
        ("max_connections", "500"),
        ("password_encryption", encryption),
        // Thrown away at the end, so never written out for safety.
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("timezone", "UTC"),
        ("log_line_prefix", "%m [%p] %u@%d "),
    ];
    let (certificate, key) = (format!("{socket}/server.crt"), format!("{socket}/server.key"));
    if options.tls != Tls::Off {
        settings.extend([("ssl", "on"), ("ssl_cert_file", &certificate), ("ssl_key_file", &key)]);
    }
    settings.extend(options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    settings.iter().fold(String::from("\n"), |mut text, (name, value)| {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        text
    })
}

fn access(options: &Options) -> String {
    let mut text = String::new();
    for line in &options.hba {
        let _ = writeln!(text, "{line}");
    }
    let host = if options.tls == Tls::Required { "hostssl" } else { "host" };
    let method = options.auth.method();
    // The socket is in a folder only the server's account (and root) can enter.
    let _ = writeln!(text, "local all all trust");
    let _ = writeln!(text, "{host} all all all {method}");
    let _ = writeln!(text, "{host} replication all all {method}");
    text
}

fn make_certificates(scratch: &Scratch) -> Result<(), LabError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "tidegate lab");
    let ca_certificate = ca.self_signed(&ca_key)?;

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;

    scratch.write("ca.crt", &ca_certificate.pem())?;
    scratch.write("server.crt", &certificate.pem())?;
    scratch.write("server.key", &key.serialize_pem())?;
    Ok(())
}

pub(super) fn random_password() -> Result<Secret<String>, LabError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| LabError::Io {
        what: "drawing a random password".to_owned(),
        source: error.into(),
    })?;
    Ok(Secret::new(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })))
}
