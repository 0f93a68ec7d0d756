use super::*;

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit-key.pem");
    (dir, path)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_made_once_for_its_owner_only() {
    let (_dir, path) = place();
    let made = SigningKey::load_or_make(&path).unwrap().public();
    assert_eq!(SigningKey::load_or_make(&path).unwrap().public(), made);
    assert_eq!((mode(&path), mode(&public_path(&path))), (0o600, 0o644));
    assert_eq!(std::fs::read_to_string(public_path(&path)).unwrap().parse(), Ok(made));
    assert!(SigningKey::make(&path).is_err(), "a key is never overwritten");
}

#[test]
fn public_keys_as_text() {
    let (_dir, path) = place();
    let key = SigningKey::load_or_make(&path).unwrap().public();
    assert_eq!(key.to_string().parse(), Ok(key));
    assert_eq!(key.pem().parse(), Ok(key));
    assert_eq!(key.id().len(), 16);
    for bad in [
        "",
        "QUJD",
        "-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n",
        "not base 64!",
    ] {
        assert_eq!(bad.parse::<PublicKey>(), Err(PublicKeyError));
    }
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_refused() {
    let (_dir, path) = place();
    assert!(SigningKey::load_or_make(&path).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        SigningKey::load_or_make(&path),
        Err(KeyError::Exposed { mode: 0o640, .. })
    ));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "no key").unwrap();
    assert!(matches!(SigningKey::load_or_make(&path), Err(KeyError::Malformed { .. })));
}

#[test]
fn openssl_reads_both_halves_and_agrees() {
    let (dir, path) = place();
    let key = SigningKey::load_or_make(&path).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(arguments)
            .current_dir(dir.path())
            .output();
        output
            .ok()
            .map(|output| (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let Some((read, public)) = openssl(&["pkey", "-in", "audit-key.pem", "-pubout"]) else {
        eprintln!("SKIPPED: no openssl here");
        return;
    };
    assert!(read);
    assert_eq!(public.parse(), Ok(key.public()));
    let Signature(bytes) = key.sign(b"message");
    std::fs::write(dir.path().join("message"), b"message").unwrap();
    std::fs::write(dir.path().join("signature"), bytes).unwrap();
    let verify = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "audit-key.pub",
        "-rawin",
        "-in",
        "message",
        "-sigfile",
        "signature",
    ];
    assert_eq!(openssl(&verify).map(|(verified, _)| verified), Some(true));
}
