//! The console in a real browser (Debian's chromium): two people ask, approve, connect and end, on a desk and on a phone, with the keyboard,
//! without a script; axe finds nothing; texts that would be scripts are texts.
//!
//! `tests/browser/setup.sh` fetches what drives it; where that or the browser cannot be had it is left out, and that is said. Pictures of every
//! page are left in `target/browser/pictures`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::demo::testkit::free_port;
use tokio::io::AsyncWriteExt as _;

use crate::support::{ANA, House, database};

const LENA: &str = "lena@example.com";
const OLGA: &str = "olga@example.com";
/// Time for the whole story: chromium takes seconds to start on a busy machine.
const STORY: Duration = Duration::from_mins(6);

/// Texts that would run as a script where one is not escaped, each in its own way.
fn hostile() -> Vec<String> {
    let run = "window.executed=1";
    [
        format!("<img src=x onerror={run}>"),
        format!("<script>{run}</script>"),
        format!("\"><svg onload={run}>"),
        format!("' autofocus onfocus={run} x='"),
        format!("javascript:{run}"),
        format!("</textarea><script>{run}</script>"),
        format!("</title><iframe srcdoc='<script>parent.{run}</script>'>"),
        format!("<a href=\"javascript:{run}\">x</a>"),
    ]
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_in_real_browsers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = root.join("target/browser");
    if !home.join("node_modules/playwright-core").exists() || !Path::new("/usr/bin/chromium").exists() {
        println!("left out: no chromium, or nothing to drive it (tests/browser/setup.sh)");
        return;
    }
    let port = free_port().expect("a port");
    let console = format!("[console]\nlisten = \"127.0.0.1:{port}\"\n");
    let house = House::open(&[(ANA, "qa"), (LENA, "leads"), (OLGA, "operators")], &console, &[]).await;
    let psql = database().server.binaries().tool("psql").expect("psql");
    let given = json!({
        "url": format!("http://127.0.0.1:{port}"),
        "psql": psql.parent().expect("a folder"),
        "hostile": hostile(),
        "ana": house.token(ANA),
        "lena": house.token(LENA),
        "olga": house.token(OLGA),
    });
    let mut story = tokio::process::Command::new("node")
        .arg(root.join("tests/browser/story.mjs"))
        .arg(&home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node");
    let mut input = story.stdin.take().expect("its input");
    input.write_all(given.to_string().as_bytes()).await.expect("told");
    drop(input);
    let told = tokio::time::timeout(STORY, story.wait_with_output()).await;
    let told = told.expect("the story ends").expect("its output");
    let (said, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{said}\n{errors}");
    let figures: Value = serde_json::from_str(said.trim()).expect("figures");
    println!("in the browser: {figures}");
    assert!(figures["pages"].as_u64().is_some_and(|pages| pages >= 19), "{figures}");
}
