//! Drivers as they are published work through the gate; `make drivers` fetches them and runs this.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{TARGET, gate, grant, records_of};

#[test]
#[ignore = "needs drivers from PyPI and npm: make drivers"]
fn published_drivers() {
    let home = PathBuf::from(std::env::var_os("DRIVERS").expect("make drivers"));
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
    let gate = gate();
    let python = home.join("python/bin/python");
    for (program, script, needs) in [
        (python.clone(), "psycopg3.py", "psycopg"),
        (python.clone(), "psycopg2_.py", "psycopg2"),
        (python.clone(), "asyncpg_.py", "asyncpg"),
        (PathBuf::from("node"), "node_pg.js", "pg"),
    ] {
        let mut there = Command::new(&program);
        if program == python {
            there.args(["-c", &format!("import {needs}")]);
        } else {
            there
                .args(["-e", &format!("require('{needs}')")])
                .env("NODE_PATH", home.join("node_modules"));
        }
        if !there.status().is_ok_and(|status| status.success()) {
            println!("{script}: left out, {needs} is not installed");
            continue;
        }
        for sslmode in ["disable", "require"] {
            let login = grant(&gate, "10m");
            let ended = Command::new(&program)
                .arg(here.join(script))
                .env("NODE_PATH", home.join("node_modules"))
                .env("PGHOST", "127.0.0.1")
                .env("PGPORT", gate.port().to_string())
                .env("PGUSER", &login.grant)
                .env("PGPASSWORD", login.secret.expose())
                .env("PGDATABASE", TARGET)
                .env("PGSSLMODE", sslmode)
                .status()
                .expect("it starts");
            let logged = records_of(&gate, &login.grant, "statement").len();
            println!("{script}, sslmode={sslmode}: {ended}, {logged} statements on record");
            assert!(ended.success() && logged > 10, "{script} with sslmode={sslmode}");
        }
    }
}
