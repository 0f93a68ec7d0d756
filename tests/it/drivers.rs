//! Drivers as they are published work through the gate; `make drivers` fetches them and runs this.
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tidegate::lab::Gate;

use crate::support::{House, TARGET, eventually, gate, grant, id, records_of};

/// A driver's script: its program, the script, the package it is about.
struct Driver {
    home: PathBuf,
    program: PathBuf,
    needs: &'static str,
}

impl Driver {
    fn all() -> [Self; 4] {
        let home = PathBuf::from(std::env::var_os("DRIVERS").expect("make drivers"));
        let python = home.join("python/bin/python");
        [
            (python.clone(), "psycopg"),
            (python.clone(), "psycopg2"),
            (python, "asyncpg"),
            (PathBuf::from("node"), "pg"),
        ]
        .map(|(program, needs)| Self {
            home: home.clone(),
            program,
            needs,
        })
    }

    fn node(&self) -> bool {
        self.program == Path::new("node")
    }

    fn is_there(&self) -> bool {
        let mut there = Command::new(&self.program);
        if self.node() {
            there.args(["-e", &format!("require('{}')", self.needs)]);
        } else {
            there.args(["-c", &format!("import {}", self.needs)]);
        }
        there.env("NODE_PATH", self.home.join("node_modules"));
        let there = there.status().is_ok_and(|status| status.success());
        if !there {
            println!("left out, {} is not installed", self.needs);
        }
        there
    }

    fn run(&self, gate: &Gate, script: &str, (user, password): (&str, &str)) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
        let mut command = Command::new(&self.program);
        command
            .arg(here.join(script))
            .env("NODE_PATH", self.home.join("node_modules"))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", gate.port().to_string())
            .env("PGUSER", user)
            .env("PGPASSWORD", password)
            .env("PGDATABASE", TARGET);
        command
    }
}

#[test]
#[ignore = "needs drivers from PyPI and npm: make drivers"]
fn published_drivers() {
    let gate = gate();
    let scripts = ["psycopg3.py", "psycopg2_.py", "asyncpg_.py", "node_pg.js"];
    for (driver, script) in Driver::all().into_iter().zip(scripts) {
        if !driver.is_there() {
            continue;
        }
        for sslmode in ["disable", "require"] {
            let login = grant(&gate, "10m");
            let mut command = driver.run(&gate, script, (&login.grant, login.secret.expose()));
            let ended = command.env("PGSSLMODE", sslmode).status().expect("it starts");
            let logged = records_of(&gate, &login.grant, "statement").len();
            println!("{script}, sslmode={sslmode}: {ended}, {logged} statements on record");
            assert!(ended.success() && logged > 10, "{script} with sslmode={sslmode}");
        }
    }
}

/// Each waits through the first notice and a reminder, and is let in by the approval.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs drivers from PyPI and npm: make drivers"]
async fn published_drivers_wait_for_an_approval() {
    let people = [
        ("psycopg", "qa"),
        ("psycopg2", "qa"),
        ("asyncpg", "qa"),
        ("pg", "qa"),
        ("lea", "leads"),
    ];
    let house = House::open(&people, "[access]\nlogin_notice = \"200ms\"\n", &[]).await;
    for driver in Driver::all() {
        if !driver.is_there() {
            continue;
        }
        let who = driver.needs;
        let script = if driver.node() { "wait.js" } else { "wait.py" };
        let mut command = driver.run(&house.gate, script, (who, house.token(who)));
        command
            .arg(who)
            .env("PGDATABASE", format!("{TARGET}/read-write"))
            .env("PGSSLMODE", "require")
            .env("PGOPTIONS", r"-c tidegate.reason=bug\ 17")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().expect("it starts");
        let pending = eventually("its request", async || {
            let path = format!("/v1/requests?status=pending&identity={who}");
            let found = house.call("lea", "GET", &path, &Value::Null).await.good();
            found["requests"].as_array().expect("requests").first().map(id)
        })
        .await;
        // Longer than until the reminder, of which nothing can be seen from here.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(running.try_wait().expect("its state").is_none(), "{who} did not wait");
        house.step("lea", &pending, "approve").await.good();
        let ended = running.wait_with_output().expect("it ends");
        println!("{who}: {}", ended.status);
        assert_eq!(ended.stdout, b"in\n", "{who}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}
