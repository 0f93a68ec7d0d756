//! Throwaway PostgreSQL server.
//!
//! It does not install PostgreSQL, and does not survive the process that started it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use super::PostgresBinaries;
use super::binaries::{SystemAccount, server_account};
use super::gate::free_port;
use super::keeper::{KeptCommand, ProcessKeeper};
use super::scratch::ScratchFolder;
use crate::base::secret::Secret;

/// Number of attempts to start: another process may take the port between the check and the server's bind.
const MAX_START_ATTEMPTS: u32 = 5;
/// Number of attempts to restart while children of a killed server are still alive ...
const MAX_CHILDREN_LOOKS: u32 = 200;
/// ... and the interval between two of them.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const SUPERUSER: &str = "postgres";

/// Start script of the server: `$1` is the folder of the binaries, `$2` its own folder, `$3` the authentication method.
const START_SCRIPT: &str = r#"
"$1/initdb" -D "$2/data" -U postgres --pwfile="$2/password" -A "$3" -E UTF8 --locale=C --no-sync || exit 1
cat "$2/lab.conf" >>"$2/data/postgresql.conf"
cat "$2/lab.hba" >"$2/data/pg_hba.conf"
exec "$1/postgres" -D "$2/data"
"#;

/// Authentication method of the server for TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerAuth {
    /// SCRAM-SHA-256 (and -PLUS over TLS).
    #[default]
    Scram,
    /// MD5 challenge; passwords are stored as MD5.
    Md5,
    /// Password in clear text.
    Password,
    /// No authentication.
    Trust,
}

/// TLS mode of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerTlsOption {
    /// TLS is disabled.
    #[default]
    Off,
    /// TLS is used if the client requests it.
    Offered,
    /// TLS is required: plain connections are refused.
    Required,
}

/// Options of a server. The default is a plain one with SCRAM.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Authentication method.
    pub auth: ServerAuth,
    /// TLS mode. The certificate is for `localhost` and 127.0.0.1, see [`TestPostgres::ca_file`].
    pub tls: ServerTlsOption,
    /// Lines that go before all others in `pg_hba.conf`.
    pub hba: Vec<String>,
    /// Settings for `postgresql.conf`, as names and plain values.
    pub settings: Vec<(String, String)>,
    /// Server binaries; by default those that [`PostgresBinaries::find`] returns.
    pub binaries: Option<PostgresBinaries>,
}

/// Running server. It is stopped and its files are removed on drop, and also when this process dies.
#[derive(Debug)]
pub struct TestPostgres {
    // Dropped before the keeper of the folder, in which it runs.
    again: Option<ProcessKeeper>,
    keeper: ProcessKeeper,
    account: Option<SystemAccount>,
    binaries: PostgresBinaries,
    port: u16,
    password: Secret<String>,
}

impl TestPostgres {
    /// Starts a server and waits until it takes connections (about half a second; blocks the calling thread).
    pub fn start(options: &ServerOptions) -> anyhow::Result<Self> {
        let binaries = options.binaries.clone().map_or_else(PostgresBinaries::find, Ok)?;
        let account = server_account()?;
        let mut last = Self::attempt(options, &binaries, account);
        for _ in 1..MAX_START_ATTEMPTS {
            match &last {
                Err(error) if error.to_string().contains("Address already in use") => {}
                _ => break,
            }
            last = Self::attempt(options, &binaries, account);
        }
        last
    }

    fn attempt(options: &ServerOptions, binaries: &PostgresBinaries, account: Option<SystemAccount>) -> anyhow::Result<Self> {
        let scratch = ScratchFolder::new(account)?;
        let port = free_port()?;
        let password = random_password()?;
        scratch.write("password", password.expose())?;
        scratch.write("lab.conf", &configuration(options, port, scratch.path()))?;
        scratch.write("lab.hba", &access(options))?;
        if options.tls != ServerTlsOption::Off {
            make_certificates(&scratch)?;
        }
        let (bin, folder) = (
            binaries.folder().to_string_lossy(),
            scratch.path().to_string_lossy().into_owned(),
        );
        let mut keeper = ProcessKeeper::start(
            scratch,
            &KeptCommand {
                what: "PostgreSQL",
                // Immediate shutdown, since the data is thrown away.
                signal: "QUIT",
                account,
                command: &["/bin/sh", "-c", START_SCRIPT, "start", &bin, &folder, options.auth.method()],
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

    /// Kills the postmaster (SIGKILL), to simulate a crash. Blocks until it is dead; its children notice and exit by
    /// themselves.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.end(Signal::KILL)
    }

    /// Stops it in order, sessions included (fast shutdown). Blocks until it has stopped.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.end(Signal::INT)
    }

    /// Starts it again on the same data and the same port, after [`TestPostgres::kill`] or [`TestPostgres::stop`], and waits until it
    /// takes connections.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        for _ in 0..MAX_CHILDREN_LOOKS {
            self.again = None;
            match self.attempt_again() {
                // Children of the killed server are still alive: no server starts beside them.
                Err(error) if error.to_string().contains("pre-existing shared memory block") => {
                    std::thread::sleep(POLL_INTERVAL);
                }
                done => return done.map(|keeper| self.again = Some(keeper)),
            }
        }
        self.attempt_again().map(|keeper| self.again = Some(keeper))
    }

    fn attempt_again(&self) -> anyhow::Result<ProcessKeeper> {
        let (bin, home) = (self.binaries.folder().to_string_lossy(), self.folder());
        let mut keeper = ProcessKeeper::start(
            ScratchFolder::new(self.account)?,
            &KeptCommand {
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

    fn end(&self, signal: Signal) -> anyhow::Result<()> {
        let run = self.again.as_ref().unwrap_or(&self.keeper);
        run.signal(signal)?;
        run.wait_for_its_end()
    }

    /// Returns the address it listens on: 127.0.0.1 and a free port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Returns the port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the name of its superuser.
    #[must_use]
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// Returns the superuser's password.
    #[must_use]
    pub fn password(&self) -> &Secret<String> {
        &self.password
    }

    /// Returns its own folder, which also contains its Unix socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.keeper.folder()
    }

    /// Returns its log: of the first run, and of the current one if it was started again.
    #[must_use]
    pub fn log(&self) -> String {
        let runs = std::iter::once(&self.keeper).chain(&self.again);
        let log = runs.flat_map(|run| std::fs::read(run.log()).unwrap_or_default());
        String::from_utf8_lossy(&log.collect::<Vec<_>>()).into_owned()
    }

    /// Returns the certificate of the CA that signed its certificate (PEM); the file exists only with TLS.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder().join("ca.crt")
    }

    /// Returns the binaries it runs.
    #[must_use]
    pub fn binaries(&self) -> &PostgresBinaries {
        &self.binaries
    }

    /// Connects as superuser through its Unix socket, past any gate. The connection's driver runs as a task of the current
    /// runtime.
    pub async fn client(&self, database: &str) -> anyhow::Result<tokio_postgres::Client> {
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

    /// Runs a script as superuser. A script with several statements runs in one transaction, so it cannot contain statements
    /// such as `CREATE DATABASE`.
    pub async fn batch(&self, database: &str, script: &str) -> anyhow::Result<()> {
        Ok(self.client(database).await?.batch_execute(script).await?)
    }
}

impl ServerAuth {
    /// Returns the name of the method in `pg_hba.conf`.
    fn method(self) -> &'static str {
        match self {
            Self::Scram => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Trust => "trust",
        }
    }
}

/// Returns true if the server takes sessions. The eighth line of `postmaster.pid` is the server's status, as `pg_ctl` reads it
/// (src/include/utils/pidfile.h); the first line is its process id, which tells it from the file that a killed server left. A
/// standby that takes no sessions counts as ready. `home` contains the data, `run` is the folder of the run's keeper.
fn ready(home: &Path, run: &Path) -> bool {
    let Ok(file) = std::fs::read_to_string(home.join("data/postmaster.pid")) else {
        return false;
    };
    let line = |at| file.lines().nth(at).unwrap_or_default().trim();
    matches!(line(7), "ready" | "standby") && std::fs::read_to_string(run.join("pid")).is_ok_and(|pid| pid.trim() == line(0))
}

fn configuration(options: &ServerOptions, port: u16, folder: &Path) -> String {
    let socket = folder.to_string_lossy();
    let port = port.to_string();
    let encryption = if options.auth == ServerAuth::Md5 {
        "md5"
    } else {
        "scram-sha-256"
    };
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", &socket),
        ("max_connections", "500"),
        ("password_encryption", encryption),
        // The data is thrown away at the end, so durability is not needed.
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("timezone", "UTC"),
        ("log_line_prefix", "%m [%p] %u@%d "),
    ];
    let (certificate, key) = (format!("{socket}/server.crt"), format!("{socket}/server.key"));
    if options.tls != ServerTlsOption::Off {
        settings.extend([("ssl", "on"), ("ssl_cert_file", &certificate), ("ssl_key_file", &key)]);
    }
    settings.extend(options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    settings.iter().fold(String::from("\n"), |mut text, (name, value)| {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        text
    })
}

fn access(options: &ServerOptions) -> String {
    let mut text = String::new();
    for line in &options.hba {
        let _ = writeln!(text, "{line}");
    }
    let host = if options.tls == ServerTlsOption::Required {
        "hostssl"
    } else {
        "host"
    };
    let method = options.auth.method();
    // The socket is in a folder that only the server's account (and root) can enter.
    let _ = writeln!(text, "local all all trust");
    let _ = writeln!(text, "{host} all all all {method}");
    let _ = writeln!(text, "{host} replication all all {method}");
    text
}

fn make_certificates(scratch: &ScratchFolder) -> anyhow::Result<()> {
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

pub(super) fn random_password() -> anyhow::Result<Secret<String>> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(Secret::new(HEXLOWER.encode(&bytes)))
}
