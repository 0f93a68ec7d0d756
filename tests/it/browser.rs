//! The console in a real browser (Debian's chromium): two people ask, approve, connect and end, on a desk and on a phone, with the keyboard,
//! without a script; axe finds nothing; texts that would be scripts are texts. People sign in at an OpenID provider (oidc-provider).
//!
//! `tests/browser/setup.sh` fetches what drives it; where that or the browser cannot be had it is left out, and that is said. Pictures of every
//! page are left in `target/browser/pictures`.
#![expect(clippy::print_stdout, reason = "what is left out is said, and what was measured")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::demo::testkit::free_port;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::{ANA, House, binary, database};

const LENA: &str = "lena@example.com";
const OLGA: &str = "olga@example.com";
/// A text that would run as a script where it is not escaped. `hostile` has more of them.
const SCRIPT: &str = "<img src=x onerror=window.executed=1>";
/// Time for the whole story: chromium takes seconds to start on a busy machine.
pub(crate) const STORY: Duration = Duration::from_mins(6);

/// Folder of what drives a browser; none where it or the browser is missing, which is said.
pub(crate) fn home() -> Option<PathBuf> {
    let home = root().join("target/browser");
    let there = home.join("node_modules/playwright-core").exists() && Path::new("/usr/bin/chromium").exists();
    if !there {
        println!("left out: no chromium, or nothing to drive it (tests/browser/setup.sh)");
    }
    there.then_some(home)
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a story with what it is given; returns what it has found.
async fn tell(story: &str, home: &Path, given: &Value) -> Value {
    let mut story = tokio::process::Command::new("node")
        .arg(root().join("tests/browser").join(story))
        .arg(home)
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
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_in_real_browsers() {
    let Some(home) = home() else { return };
    let port = free_port().expect("a port");
    let console = format!("[console]\nlisten = \"127.0.0.1:{port}\"\n");
    let house = House::open(&[(ANA, "qa"), (LENA, "leads"), (OLGA, "operators")], &console, &[]).await;
    let psql = database().server.binaries().tool("psql").expect("psql");
    let given = json!({
        "url": format!("http://127.0.0.1:{port}"),
        "psql": psql.parent().expect("a folder"),
        "script": SCRIPT,
        "ana": house.token(ANA),
        "lena": house.token(LENA),
        "olga": house.token(OLGA),
    });
    let figures = tell("story.mjs", &home, &given).await;
    assert!(figures["pages"].as_u64().is_some_and(|pages| pages >= 19), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_at_a_provider() {
    let Some(home) = home() else { return };
    let [port, at] = [free_port().expect("a port"), free_port().expect("a port")];
    let (url, issuer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{at}"));
    let mut provider = tokio::process::Command::new("node")
        .arg(root().join("tests/browser/provider.mjs"))
        .arg(&home)
        .args([at.to_string(), format!("{url}/signin/callback/127.0.0.1:{at}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("node");
    let mut lines = BufReader::new(provider.stdout.take().expect("its output")).lines();
    let ready = tokio::time::timeout(STORY, lines.next_line()).await;
    assert_eq!(ready.expect("it listens").expect("a line").as_deref(), Some("ready"));
    let more = format!(
        "[console]\nlisten = \"127.0.0.1:{port}\"\naddress = \"{url}\"\n\
         [[identity.issuers]]\nissuer = \"{issuer}\"\naudience = \"tidegate\"\njwks_url = \"{issuer}/jwks\"\n\
         identity_claim = \"email\"\nidentity_prefix = \"id:\"\ngroups_claim = \"groups\"\nscope = \"openid email groups\"\n\
         client_id = \"tidegate-console\"\nclient_secret_file = \"client.secret\"\n"
    );
    let house = House::open(&[], &more, &[("client.secret", "a secret of two")]).await;
    let given = json!({"url": url, "issuer": issuer, "tidegate": binary()});
    let figures = tell("provider-story.mjs", &home, &given).await;
    assert!(figures["pages"].as_u64().is_some_and(|pages| pages >= 3), "{figures}");
    let signed_in = house.call("operator", "GET", "/v1/signins", &Value::Null).await.good();
    let names = signed_in["sign_ins"].as_array().expect("a list").iter();
    let names = names.map(|sign_in| format!("{} {}", sign_in["identity"], sign_in["via"]).replace('"', ""));
    let mut names: Vec<_> = names.collect();
    names.sort();
    let expected = [
        "id:eve@example.com cli",
        "id:eve@example.com console",
        "id:lena@example.com cli",
    ];
    assert_eq!(names, expected, "Ana has signed out");
}
