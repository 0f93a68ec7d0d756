//! A reload: what it brings is on record before it decides anything, and a set of policies with a mistake changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::demo::testkit::TestGate;

use crate::support::{TARGET, database, eventually, gate_before, records};
use crate::waiting::call;

/// A gate whose policies can be changed.
struct Changing {
    gate: TestGate,
    policies: TempDir,
}

const ASKING: &str = r#"
@id("asking") @approvals("1")
permit (principal in Tidegate::Group::"qa", action == Tidegate::Action::"request", resource);
"#;
const AT_ONCE: &str = r#"
@id("at-once") @max_duration("1h")
permit (principal in Tidegate::Group::"qa", action == Tidegate::Action::"auto-approve", resource);
"#;

/// The records of this event.
fn records_of(gate: &TestGate, event: &str) -> Vec<Value> {
    let mut all = records(gate);
    all.retain(|record| record["event"] == event);
    all
}

impl Changing {
    fn open() -> Self {
        let policies = tempfile::tempdir().expect("a folder");
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schema.cedarschema");
        fs::copy(schema, policies.path().join("schema.cedarschema")).expect("the schema");
        fs::write(policies.path().join("a.cedar"), ASKING).expect("a policy");
        let more = format!("[policy]\ndir = \"{}\"\n", policies.path().display());
        let gate = gate_before(database(), "profiles = [\"read-only\", \"read-write\"]\n", &more);
        Self { gate, policies }
    }

    fn file(&self) -> PathBuf {
        self.policies.path().join("a.cedar")
    }

    /// Writes other policies and waits for what is said of them: whether they are in force, and the hash of what is.
    async fn change(&self, text: &str) -> (bool, String) {
        let loaded = || records_of(&self.gate, "policy_loaded");
        let before = loaded().len();
        fs::write(self.file(), text).expect("a policy");
        self.gate.reload().expect("SIGHUP");
        let last = eventually("it is read", async || loaded().get(before).cloned()).await;
        let hash = last["policy_set"].as_str().expect("a hash").to_owned();
        (last["accepted"] == true, hash)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_policies_decide_once_they_are_on_record_and_bad_ones_never() {
    let house = Changing::open();
    let admin = fs::read_to_string(house.gate.folder().join("state/admin.token")).expect("the admin token");
    let body = json!({"name": "ana@example.com", "groups": ["qa"]});
    let made = call(&house.gate, admin.trim(), "POST", "/v1/users", &body).await;
    let ana = made["token"].as_str().expect("a token").to_owned();
    let ask = async |profile: &str| {
        let body = json!({"target": TARGET, "profile": profile, "reason": "a test"});
        call(&house.gate, &ana, "POST", "/v1/requests", &body).await["status"].clone()
    };
    let first = records_of(&house.gate, "policy_loaded");
    let first = first[0]["policy_set"].as_str().expect("a hash").to_owned();
    assert_eq!(ask("read-only").await, "pending");

    let (accepted, second) = house.change(&format!("{ASKING}{AT_ONCE}")).await;
    assert!(accepted && second != first);
    let in_force = async || {
        let reloaded = records_of(&house.gate, "reloaded");
        reloaded.into_iter().find(|record| record["accepted"] == true).map(|_| ())
    };
    eventually("they are in force", in_force).await;
    assert_eq!(ask("read-write").await, "approved");

    // Automatic without a bound, and a misspelled attribute: nothing of it is in force.
    let unbounded = AT_ONCE.replace("@max_duration(\"1h\")", "");
    let (accepted, still) = house
        .change(&format!(
            "{unbounded}\npermit (principal, action, resource) when {{ context.color == 1 }};"
        ))
        .await;
    assert!(!accepted);
    assert_eq!(still, second);
    let refused = async || {
        records_of(&house.gate, "reloaded")
            .into_iter()
            .find(|record| record["accepted"] == false)
    };
    let refused = eventually("the refusal is on record", refused).await;
    assert!(
        refused["detail"].as_str().expect("words").contains("for any duration"),
        "{refused}"
    );
    assert_eq!(ask("read-write").await, "approved");

    // No decision is older than the record of the set it was made by.
    let mut known: Vec<Value> = Vec::new();
    for record in records(&house.gate) {
        if record["event"] == "policy_loaded" {
            known.push(record["policy_set"].clone());
        } else if record["event"] == "request_changed" {
            assert!(known.contains(&record["policy_set"]), "{record}");
        }
    }
}

/// An extension without a bound is as much access as anybody likes.
#[tokio::test(flavor = "multi_thread")]
async fn an_extension_has_a_bound() {
    let house = Changing::open();
    let longer = r#"@id("longer") permit (principal, action == Tidegate::Action::"extend", resource) when { resource.owner == principal };"#;
    assert!(!house.change(&format!("{ASKING}{longer}")).await.0);
    let checked = house.gate.command(&["check"]).expect("tidegate check");
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(
        !checked.status.success() && said.contains("it can permit \"extend\" for any duration"),
        "{said}"
    );
    let bounded = longer.replace("@id(\"longer\")", "@id(\"longer\") @max_duration(\"2h\")");
    assert!(house.change(&format!("{ASKING}{bounded}")).await.0);
    let checked = house.gate.command(&["check"]).expect("tidegate check");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("policies: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tells_the_gate_to_reload_is_told_what_came_of_it() {
    let gate = gate_before(database(), "", "");
    let told = gate.command(&["reload"]).expect("the command");
    assert_eq!(
        (told.status.code(), &*String::from_utf8_lossy(&told.stdout)),
        (Some(0), "in force\n")
    );
    let file = gate.config_file();
    let before = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, format!("{before}\n[tls]\ncert = \"nowhere\"\nkey = \"nowhere\"\n")).expect("written");
    let refused = gate.command(&["reload"]).expect("the command");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    for words in ["tls.cert", "the running one stays in force", "tidegate check"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let records = records_of(&gate, "reloaded");
    let accepted: Vec<_> = records.iter().map(|record| record["accepted"] == true).collect();
    assert_eq!(accepted, [true, false]);
    // Somebody's token is no operator's.
    let user = gate.json(&["user", "add", "ana@example.com"]).expect("a user");
    let token = tidegate::base::secret::Secret::new(user["token"].as_str().expect("a token").to_owned());
    let ana = gate.command_of(&token, &["reload"]).output().expect("the command");
    assert_eq!(ana.status.code(), Some(5), "{}", String::from_utf8_lossy(&ana.stderr));
}
