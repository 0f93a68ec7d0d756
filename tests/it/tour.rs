//! A tester's way: a grant, plain clients, the first rows; the same statements in the log, under the tester's name.

use tokio_postgres::error::SqlState;

use crate::support::{ANA, eventually, gate, grant, psql, records_of, suite, suite_in_clear, within};

#[tokio::test(flavor = "multi_thread")]
async fn psql_reads_copies_and_is_on_record() {
    let gate = gate();
    let login = grant(&gate, "10m");
    for sslmode in ["disable", "require"] {
        let script = "SELECT count(*) FROM customers;\nCOPY (SELECT 1, 'a') TO STDOUT;\n";
        let said = psql(&gate, &login, sslmode, &["-At"], script);
        assert_eq!(said.output, "1000\n1\ta\n", "{said:?}");
        assert_eq!(said.code, Some(0));
        assert!(
            said.errors
                .contains(&format!("you are {ANA} on shop under grant {}", login.grant)),
            "{said:?}"
        );
    }
    let statements = records_of(&gate, &login.grant, "statement");
    let texts: Vec<_> = statements
        .iter()
        .filter_map(|record| record["sql"]["text"].as_str())
        .collect();
    let both = ["SELECT count(*) FROM customers;", "COPY (SELECT 1, 'a') TO STDOUT;"];
    assert_eq!(texts, [both, both].concat());
    assert!(statements.iter().all(|record| record["identity"] == ANA));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_prepares_binds_and_is_on_record() {
    let gate = gate();
    let login = grant(&gate, "10m");
    for over_tls in [false, true] {
        let connected = if over_tls {
            suite(&gate, &login).await
        } else {
            suite_in_clear(&gate, &login).await
        };
        let driver = connected.expect("a session");
        let sql = "SELECT name FROM customers WHERE id = $1";
        let rows = driver.client.query(sql, &[&11_i32]).await.expect("a row");
        assert_eq!(rows[0].get::<_, &str>(0), "Ana Brandt");
    }
    let executed: Vec<_> = records_of(&gate, &login.grant, "statement")
        .into_iter()
        .filter(|record| record["kind"] == "execute")
        .collect();
    assert_eq!(executed.len(), 2);
    assert!(
        executed.iter().all(|record| record["parameters"][0]["text"] == "11"),
        "{executed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_on_record() {
    let gate = gate();
    let mut login = grant(&gate, "10m");
    login.secret = tidegate::base::secret::Secret::new("wrong".to_owned());
    let said = psql(&gate, &login, "require", &["-c", "SELECT 1"], "");
    assert_eq!(said.code, Some(2));
    assert!(said.errors.contains("password authentication failed"), "{said:?}");
    eventually("the refusal is on record", async || {
        let refused = crate::support::records(&gate);
        refused
            .into_iter()
            .find(|record| record["event"] == "refused" && record["user"] == login.grant.as_str())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_closes_in_the_middle_of_a_query() {
    let gate = gate();
    let login = grant(&gate, "2s");
    let driver = suite(&gate, &login).await.expect("a session");
    let query = driver.client.batch_execute("SELECT pg_sleep(60)");
    let error = within("the end of the query", query).await.expect_err("its end");
    assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    let message = error
        .as_db_error()
        .map(|error| error.message().to_owned())
        .unwrap_or_default();
    assert!(message.contains(&format!("grant {} ended at", login.grant)), "{message}");
    let ended = eventually("the end is on record", async || {
        records_of(&gate, &login.grant, "session_ended").pop()
    })
    .await;
    assert_eq!(ended["ending"], "expired");
    assert_eq!(ended["backend_gone"], true);
}
