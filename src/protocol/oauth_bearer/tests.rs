//! Messages byte by byte, against what PostgreSQL 18 makes of them, and any bytes.

use proptest::prelude::*;

use super::*;

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2ln-_~+/==";

fn whats(message: &[u8]) -> &'static str {
    match credentials(message) {
        Err(OauthBearerError::Malformed { what }) => what,
        other => panic!("{}: {other:?}", message.escape_ascii()),
    }
}

#[test]
fn what_libpq_sends() {
    assert_eq!(credentials(b"n,,\x01auth=\x01\x01"), Ok(Credentials::Discovery));
    let sent = format!("n,,\x01auth=Bearer {TOKEN}\x01\x01");
    assert_eq!(credentials(sent.as_bytes()), Ok(Credentials::Token(TOKEN)));
    assert_eq!(answered(b"\x01"), Ok(()));
}

#[test]
fn what_other_clients_may_send() {
    for sent in [
        "y,,\x01auth=Bearer t\x01\x01",
        "n,,\x01auth=bEaReR t\x01\x01",
        "n,,\x01auth=Bearer    t\x01\x01",
        // RFC 7628, section 4.1, with host and port; and a key that nobody knows.
        "n,,\x01host=db.example.com\x01port=5432\x01auth=Bearer t\x01\x01",
        "n,,\x01auth=Bearer t\x01qos=\x01user=a=b c\t\r\n\x01\x01",
        // Keys have case.
        "n,,\x01AUTH=Basic x\x01auth=Bearer t\x01\x01",
    ] {
        assert_eq!(credentials(sent.as_bytes()), Ok(Credentials::Token("t")), "{sent:?}");
    }
}

#[test]
fn what_is_no_message_of_the_mechanism() {
    let header = "no GS2 header";
    let separator = "no separator behind the GS2 header";
    for (sent, what) in [
        (&b""[..], "it is empty"),
        (b"\x01", header),
        (b"n", header),
        (b"x,,\x01auth=\x01\x01", header),
        (b"n;,\x01auth=\x01\x01", header),
        (
            b"p=tls-server-end-point,,\x01auth=\x01\x01",
            "channel binding, which the mechanism does not have",
        ),
        (b"n,", separator),
        (b"n,,", separator),
        (b"n,x,\x01auth=\x01\x01", separator),
        (b"n,,auth=\x01\x01", separator),
        (b"n,,\x01", "no final separator"),
        (b"n,,\x01auth=Bearer t", "no final separator"),
        (b"n,,\x01auth=Bearer t\x01", "no final separator"),
        (b"n,,\x01\x01", "no auth value"),
        (b"n,,\x01host=x\x01\x01", "no auth value"),
        (b"n,,\x01auth=Bearer t\x01\x01\x01", "data behind the final separator"),
        (b"n,,\x01auth=Bearer t\x01\x01more", "data behind the final separator"),
        (b"n,,\x01auth\x01\x01", "a key without a value"),
        (b"n,,\x01=x\x01\x01", "an invalid key"),
        (b"n,,\x01a1=x\x01\x01", "an invalid key"),
        (b"n,,\x01a =x\x01\x01", "an invalid key"),
        (b"n,,\x01auth=Bearer \x7f\x01\x01", "an invalid value"),
        (b"n,,\x01host=\xc3\xa4\x01auth=\x01\x01", "an invalid value"),
        (b"n,,\x01host=\x1b\x01auth=\x01\x01", "an invalid value"),
        (b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01", "several auth values"),
        (b"n,,\x01auth=\x01auth=\x01\x01", "several auth values"),
        (b"n,,\x01auth=Bearer t\0\x01\x01", "a NUL byte"),
    ] {
        assert_eq!(whats(sent), what, "{}", sent.escape_ascii());
    }
    assert_eq!(
        credentials(b"n,a=ana,\x01auth=Bearer t\x01\x01"),
        Err(OauthBearerError::AuthorizationIdentity)
    );
    for sent in [&b""[..], b"\x01\x01", b"n,,\x01auth=Bearer t\x01\x01", b"\0"] {
        assert!(answered(sent).is_err(), "{}", sent.escape_ascii());
    }
}

#[test]
fn credentials_that_are_no_bearer_token() {
    for (auth, reason) in [
        ("Basic YTpi", "its scheme is not Bearer"),
        ("Bearer", "its scheme is not Bearer"),
        ("Bearer\tt", "its scheme is not Bearer"),
        ("t", "its scheme is not Bearer"),
        ("Bearer ", "it is empty"),
        ("Bearer    ", "it is empty"),
        ("Bearer a b", "it has characters that no bearer token has"),
        ("Bearer a=b", "it has characters that no bearer token has"),
        ("Bearer t ", "it has characters that no bearer token has"),
        ("Bearer \"t\"", "it has characters that no bearer token has"),
    ] {
        let sent = format!("n,,\x01auth={auth}\x01\x01");
        assert_eq!(credentials(sent.as_bytes()), Ok(Credentials::Unusable(reason)), "{auth:?}");
    }
}

#[test]
fn a_refusal_says_where_to_get_a_token() {
    let discovery = Discovery::new("https://id.example.org/realms/qa", "openid email");
    let told: serde_json::Value = serde_json::from_slice(discovery.refusal()).unwrap();
    assert_eq!(
        told,
        json!({
            "status": "invalid_token",
            "scope": "openid email",
            "openid-configuration": "https://id.example.org/realms/qa/.well-known/openid-configuration",
        })
    );
    assert_eq!(discovery.issuer(), "https://id.example.org/realms/qa");
    // Nothing of a setting ends its string.
    let hostile = Discovery::new("https://x\",\"status\":\"ok", "a\\\"b\n");
    let told: serde_json::Value = serde_json::from_slice(hostile.refusal()).unwrap();
    assert_eq!(told["status"], "invalid_token");
    assert!(!hostile.refusal().contains(&0));
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = (credentials(&bytes), answered(&bytes));
        let _ = credentials(&[b"n,,\x01auth=Bearer ", &bytes[..], b"\x01\x01"].concat());
    }

    #[test]
    fn every_token_comes_out_as_it_went_in(token in "[A-Za-z0-9._~+/-]{1,200}={0,2}", key in "[A-Za-z]{1,9}", value in "[ -~]{0,40}") {
        prop_assume!(key != "auth");
        let sent = format!("n,,\x01{key}={value}\x01auth=Bearer {token}\x01{key}={value}\x01\x01");
        prop_assert_eq!(credentials(sent.as_bytes()), Ok(Credentials::Token(&token)));
        // Cut anywhere, it is no message.
        for end in 0..sent.len() {
            prop_assert!(credentials(&sent.as_bytes()[..end]).is_err());
        }
    }
}
