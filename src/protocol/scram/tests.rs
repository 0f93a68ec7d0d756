//! RFC 7677's example, both sides against each other, and what hostile peers send.

use proptest::prelude::*;

use super::message::{decode, encode};
use super::server::start_with_nonce;
use super::*;

// RFC 7677 section 3.
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn rfc_verifier() -> Verifier {
    let salt = decode("W22ZaJ0SNY7soEsUEjb6gQ==", "").unwrap();
    Verifier::derive(b"pencil", &salt, 4096)
}

#[test]
fn rfc_7677_as_server() {
    let (exchange, first) = start_with_nonce(
        Mechanism::ScramSha256,
        CLIENT_FIRST.as_bytes(),
        &rfc_verifier(),
        None,
        SERVER_NONCE,
    )
    .unwrap();
    assert_eq!(first, SERVER_FIRST.as_bytes());
    assert_eq!(exchange.finish(CLIENT_FINAL.as_bytes()).unwrap(), SERVER_FINAL.as_bytes());
}

#[test]
fn rfc_7677_as_client() {
    // Ours sends no user name, so its AuthMessage differs from the RFC's: feed it the RFC's salt and check against the server.
    let exchange = client_start(None, CLIENT_NONCE);
    assert_eq!(exchange.first(), b"n,,n=,r=rOprNGfwEbeRWgbNEkqO");
    let challenged = exchange.challenge(SERVER_FIRST.as_bytes()).unwrap();
    assert_eq!(encode(&challenged.salt), "W22ZaJ0SNY7soEsUEjb6gQ==");
    assert_eq!(challenged.iterations, 4096);
    let keys = ClientKeys::derive(b"pencil", &challenged.salt, 4096);
    let auth = format!("n=user,r={CLIENT_NONCE},{SERVER_FIRST},c=biws,r={CLIENT_NONCE}{SERVER_NONCE}");
    assert_eq!(
        encode(&keys.proof(&[auth.as_bytes()])),
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(
        format!("v={}", encode(&keys::hmac(&keys.server_key, &[auth.as_bytes()]))),
        SERVER_FINAL
    );
}

/// Runs both sides; `Ok` when both are content.
fn run(password: &[u8], verifier: &Verifier, client: Option<&[u8]>, server: Option<&[u8]>) -> Result<(), ScramError> {
    let mechanism = if client.is_some() {
        Mechanism::ScramSha256Plus
    } else {
        Mechanism::ScramSha256
    };
    let exchange = client_start(client, "abcdefghijklmnopqrstuvwx");
    let (server, first) = server_start(mechanism, &exchange.first(), verifier, server, &[7; 18])?;
    let challenged = exchange.challenge(&first)?;
    let keys = ClientKeys::derive(password, &challenged.salt, challenged.iterations);
    let answered = challenged.answer(&keys);
    let last = server.finish(&answered.message)?;
    answered.verify(&last)
}

#[test]
fn wrong_password_and_mock_end_alike() {
    let verifier = Verifier::derive(b"right", &[1; SALT_BYTES], 2);
    assert_eq!(run(b"wrong", &verifier, None, None), Err(ScramError::BadProof));
    let mock = Verifier::mock("gr_0123456789", &[9; 32]);
    assert_eq!(run(b"right", &mock, None, None), Err(ScramError::BadProof));
    assert_eq!(mock.salt(), Verifier::mock("gr_0123456789", &[9; 32]).salt());
    assert_ne!(mock.salt(), Verifier::mock("gr_0123456780", &[9; 32]).salt());
    assert_ne!(mock.salt(), Verifier::mock("gr_0123456789", &[8; 32]).salt());
    assert_eq!((mock.salt().len(), mock.iterations()), (SALT_BYTES, ITERATIONS));
}

#[test]
fn binding() {
    let verifier = Verifier::derive(b"pw", &[1; 16], 2);
    let ours: &[u8] = &[5; 32];
    assert_eq!(run(b"pw", &verifier, Some(ours), Some(ours)), Ok(()));
    assert_eq!(run(b"pw", &verifier, None, Some(ours)), Ok(()));
    let theirs: &[u8] = &[6; 32];
    assert_eq!(
        run(b"pw", &verifier, Some(theirs), Some(ours)),
        Err(ScramError::BindingMismatch)
    );
    // PLUS where it was not offered.
    assert!(matches!(
        run(b"pw", &verifier, Some(ours), None),
        Err(ScramError::Malformed { .. })
    ));
}

#[test]
fn downgrade_is_noticed() {
    let verifier = Verifier::derive(b"pw", &[1; 16], 2);
    let first = client_start(None, "abc").binding_not_offered().first();
    assert_eq!(first, b"y,,n=,r=abc");
    let start = |binding| server_start(Mechanism::ScramSha256, &first, &verifier, binding, &[0; 18]).map(|_| ());
    assert_eq!(start(Some(&[5; 32][..])), Err(ScramError::Downgrade));
    assert_eq!(start(None), Ok(()));
    // And the exchange with `y` works to its end where nothing was offered.
    let exchange = client_start(None, "abc").binding_not_offered();
    let (server, answer) = server_start(Mechanism::ScramSha256, &first, &verifier, None, &[0; 18]).unwrap();
    let challenged = exchange.challenge(&answer).unwrap();
    let keys = ClientKeys::derive(b"pw", &challenged.salt, challenged.iterations);
    let answered = challenged.answer(&keys);
    assert_eq!(answered.message.get(..6), Some(&b"c=eSws"[..]));
    let last = server.finish(&answered.message).unwrap();
    assert_eq!(answered.verify(&last), Ok(()));
}

#[test]
fn odd_client_firsts() {
    let verifier = Verifier::derive(b"pw", &[1; 16], 2);
    let start = |first: &str, mechanism, binding| {
        server_start(mechanism, first.as_bytes(), &verifier, binding, &[0; 18]).map(|(_, answer)| answer)
    };
    let plain = Mechanism::ScramSha256;
    let plus = Mechanism::ScramSha256Plus;
    for bad in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,n=u,r=",
        "n,,r=abc",
        "n,,n=u,r=a b",
        "n,,n=u,r=ä",
        "n,,n=u,x",
        "x,,n=u,r=abc",
        "n,,n=u,r=abc,",
        "n,,n=u,r=abc,xx=1",
        "n,,n=u,r=a\0bc",
        "p,,n=u,r=abc",
        "p=,,n=u,r=abc",
        "p=tls-unique,,n=u,r=abc",
    ] {
        assert!(
            matches!(start(bad, plain, None), Err(ScramError::Malformed { .. })),
            "{bad:?}"
        );
    }
    for unsupported in ["n,a=root,n=u,r=abc", "n,,m=x,n=u,r=abc", "n,,n=u,r=abc,m=x"] {
        assert!(
            matches!(start(unsupported, plain, None), Err(ScramError::Unsupported { .. })),
            "{unsupported:?}"
        );
    }
    assert!(start("n,,n=u=2C,r=abc,x=later", plain, None).is_ok());
    let binding: Option<&[u8]> = Some(&[5; 32]);
    assert!(matches!(
        start("n,,n=u,r=abc", plus, binding),
        Err(ScramError::Malformed { .. })
    ));
    assert!(matches!(
        start("p=tls-unique,,n=u,r=abc", plus, binding),
        Err(ScramError::Unsupported { .. })
    ));
    // pgbouncer CVE-2026-6665: a long nonce overflowed a buffer.
    let long = format!("n,,n=u,r={}", "a".repeat(MAX_MESSAGE));
    assert!(matches!(start(&long, plain, None), Err(ScramError::TooLong { .. })));
    let longest = format!("n,,n=u,r={}", "a".repeat(MAX_MESSAGE - 9));
    assert!(start(&longest, plain, None).is_ok());
}

#[test]
fn odd_client_finals() {
    let finish = |last: &str| {
        let (exchange, _) = start_with_nonce(
            Mechanism::ScramSha256,
            CLIENT_FIRST.as_bytes(),
            &rfc_verifier(),
            None,
            SERVER_NONCE,
        )
        .unwrap();
        exchange.finish(last.as_bytes())
    };
    let malformed = |last: &str| assert!(matches!(finish(last), Err(ScramError::Malformed { .. })), "{last}");
    malformed("");
    malformed(",p=");
    malformed(&CLIENT_FINAL.replace("c=biws", "c=eSws"));
    malformed(&CLIENT_FINAL.replace("c=biws", "c=*"));
    malformed(&CLIENT_FINAL.replace("c=biws", "c=biw"));
    malformed(&CLIENT_FINAL.replace("hNlF$k0", "hNlF$k1"));
    malformed(&CLIENT_FINAL.replace("VQ=", "VQ"));
    malformed(&CLIENT_FINAL.replace("VQ=", "VQ=\n"));
    malformed(&CLIENT_FINAL.replace("p=dHzb", "p="));
    malformed(&format!("{CLIENT_FINAL},x=behind the proof"));
    // A different proof, and an extension the client did not sign for.
    assert_eq!(finish(&CLIENT_FINAL.replace("p=dHzb", "p=AHzb")), Err(ScramError::BadProof));
    assert_eq!(finish(&CLIENT_FINAL.replace(",p=", ",x=y,p=")), Err(ScramError::BadProof));
}

#[test]
fn odd_servers() {
    let challenge = |text: &str| client_start(None, "abc").challenge(text.as_bytes()).map(|_| ());
    assert_eq!(challenge("r=abcdef,s=QUJD,i=4096"), Ok(()));
    assert_eq!(challenge("r=abcdef,s=QUJD,i=4096,x=y"), Ok(()));
    assert_eq!(challenge("r=abc,s=QUJD,i=4096"), Err(ScramError::Nonce));
    assert_eq!(challenge("r=abd,s=QUJD,i=4096"), Err(ScramError::Nonce));
    assert_eq!(challenge("e=other-error"), Err(ScramError::ServerError));
    // pgjdbc CVE-2026-42198: unlimited PBKDF2.
    for (rounds, got) in [
        ("0", 0),
        ("100001", 100_001),
        ("4294967296", 1 << 32),
        ("99999999999999999999999", u64::MAX),
    ] {
        assert_eq!(
            challenge(&format!("r=abcdef,s=QUJD,i={rounds}")),
            Err(ScramError::Iterations { got })
        );
    }
    for bad in [
        "",
        "r=abcdef",
        "r=abcdef,s=,i=1",
        "r=abcdef,s=Q,i=1",
        "r=abcdef,s=QUJD,i=",
        "r=abcdef,s=QUJD,i=+1",
        "r=abcdef,s=QUJD,i=-1",
    ] {
        assert!(matches!(challenge(bad), Err(ScramError::Malformed { .. })), "{bad}");
    }
    let answered = || {
        let challenged = client_start(None, "abc").challenge(b"r=abcdef,s=QUJD,i=1").unwrap();
        let keys = ClientKeys::derive(b"pw", &challenged.salt, 1);
        challenged.answer(&keys)
    };
    assert_eq!(answered().verify(b"v=AAAA"), Err(ScramError::BadSignature));
    assert_eq!(answered().verify(b"v="), Err(ScramError::BadSignature));
    assert_eq!(answered().verify(b"e=invalid-proof"), Err(ScramError::ServerError));
    assert!(matches!(answered().verify(b"v=*"), Err(ScramError::Malformed { .. })));
    assert!(matches!(answered().verify(b""), Err(ScramError::Malformed { .. })));
}

#[test]
fn passwords_are_prepared() {
    // node-postgres's case: U+2168 (roman nine) is "IX" after SASLprep.
    let verifier = Verifier::derive("IX".as_bytes(), &[1; 16], 2);
    assert_eq!(run("\u{2168}".as_bytes(), &verifier, None, None), Ok(()));
    // What SASLprep forbids, and what is not text, is taken as it is.
    for raw in [&b"a\x01b"[..], &b"\xff\xfe"[..]] {
        assert_eq!(run(raw, &Verifier::derive(raw, &[1; 16], 2), None, None), Ok(()));
    }
}

#[test]
fn verifier_text() {
    // Made by PostgreSQL's form from RFC 7677's example.
    let text = rfc_verifier().to_string();
    assert_eq!(
        text,
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    );
    assert_eq!(text.parse(), Ok(rfc_verifier()));
    for bad in [
        "",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$4096:QQ==$QQ==:QQ==",
        &format!("{text}$"),
        &text.replace("4096", "0"),
        &text.replace("SHA-256", "SHA-1"),
    ] {
        assert_eq!(bad.parse::<Verifier>(), Err(VerifierError), "{bad}");
    }
    let debug = format!("{:?} {:?}", rfc_verifier(), ClientKeys::derive(b"pencil", b"salt", 1));
    assert!(
        !debug.contains("WG5d8") && !debug.contains("wfPL") && !debug.contains("87"),
        "{debug}"
    );
}

proptest! {
    #[test]
    fn both_sides_agree(
        password in "\\PC{0,40}",
        salt in proptest::collection::vec(any::<u8>(), 1..40),
        rounds in 1u32..4,
        binding in proptest::option::of(proptest::collection::vec(any::<u8>(), 20..64)),
    ) {
        let verifier = Verifier::derive(password.as_bytes(), &salt, rounds);
        let read: Verifier = verifier.to_string().parse().unwrap();
        prop_assert_eq!(run(password.as_bytes(), &read, binding.as_deref(), binding.as_deref()), Ok(()));
        let other = format!("{password}x");
        prop_assert_eq!(run(other.as_bytes(), &read, binding.as_deref(), binding.as_deref()), Err(ScramError::BadProof));
    }

    #[test]
    fn nothing_panics(first in proptest::collection::vec(any::<u8>(), 0..200), text in "[nypracsivem=,a-z0-9+/ ]{0,80}", plus in any::<bool>()) {
        let verifier = Verifier::mock("u", &[0; 32]);
        let mechanism = if plus { Mechanism::ScramSha256Plus } else { Mechanism::ScramSha256 };
        for bytes in [first.as_slice(), text.as_bytes()] {
            if let Ok((exchange, _)) = server_start(mechanism, bytes, &verifier, Some(b"x"), b"y") {
                prop_assert!(exchange.finish(bytes).is_err());
            }
            let (exchange, _) = server_start(Mechanism::ScramSha256, b"n,,n=,r=a", &verifier, None, b"y").unwrap();
            prop_assert!(exchange.finish(bytes).is_err());
            let _ = client_start(None, "a").challenge(bytes).map(|_| ());
            let challenged = client_start(None, "a").challenge(b"r=ab,s=QUJD,i=1").unwrap();
            prop_assert!(challenged.answer(&ClientKeys::derive(b"", b"", 1)).verify(bytes).is_err());
        }
        let _ = text.parse::<Verifier>();
    }
}
