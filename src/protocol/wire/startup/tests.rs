use proptest::prelude::*;

use super::*;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

fn startup(minor: u16, body: &[u8]) -> Result<StartupMessage, StartupError> {
    match FirstPacket::parse(&packet(0x0003_0000 | u32::from(minor), body))? {
        FirstPacket::Startup(startup) => Ok(startup),
        other => panic!("{other:?}"),
    }
}

fn settings(body: &[u8]) -> Vec<(String, String)> {
    startup(0, body).unwrap().settings
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// What a reader does that gets its bytes in pieces.
fn read_in_pieces(stream: &[u8], sizes: &[usize]) -> (Result<Option<FirstPacket>, StartupError>, usize) {
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(1));
    let mut held = Vec::new();
    loop {
        let wanted = match missing(&held) {
            Ok(0) => return (FirstPacket::parse(&held).map(Some), held.len()),
            Ok(wanted) => wanted,
            Err(error) => return (Err(error), held.len()),
        };
        let take = wanted.min(sizes.next().unwrap()).min(stream.len() - held.len());
        if take == 0 {
            return (Ok(None), held.len());
        }
        held.extend_from_slice(&stream[held.len()..held.len() + take]);
    }
}

#[test]
fn the_requests() {
    assert_eq!(FirstPacket::parse(&packet(SSL_REQUEST_CODE, b"")), Ok(FirstPacket::Ssl));
    assert_eq!(FirstPacket::parse(&packet(GSSENC_REQUEST_CODE, b"")), Ok(FirstPacket::Gss));
    assert_eq!(
        FirstPacket::parse(&packet(SSL_REQUEST_CODE, b"x")),
        Err(StartupError::Length { length: 9 })
    );
    assert_eq!(
        FirstPacket::parse(&packet(CANCEL_REQUEST_CODE, &[255, 255, 255, 254, 1, 2, 3, 4])),
        Ok(FirstPacket::Cancel(CancelRequest {
            pid: -2,
            key: vec![1, 2, 3, 4]
        }))
    );
}

#[test]
fn cancel_keys_have_4_to_256_bytes() {
    for (length, fits) in [
        (0, false),
        (3, false),
        (4, true),
        (32, true),
        (256, true),
        (257, false),
        (5000, false),
    ] {
        let parsed = FirstPacket::parse(&packet(CANCEL_REQUEST_CODE, &vec![7; 4 + length]));
        assert_eq!(parsed.is_ok(), fits, "{length}: {parsed:?}");
    }
    for length in 0..4 {
        assert!(FirstPacket::parse(&packet(CANCEL_REQUEST_CODE, &vec![7; length])).is_err());
    }
    let shown = format!(
        "{:?}",
        CancelRequest {
            pid: 1,
            key: vec![222; 4]
        }
    );
    assert!(!shown.contains("222"));
}

#[test]
fn lengths_are_bounded_and_unsigned() {
    for length in [
        0,
        4,
        7,
        10_005,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX,
        u32::from_be_bytes(*b"GET "),
    ] {
        assert_eq!(missing(&length.to_be_bytes()), Err(StartupError::Length { length }));
    }
    assert_eq!(missing(&8_u32.to_be_bytes()), Ok(4));
    assert_eq!(missing(&10_004_u32.to_be_bytes()), Ok(10_000));
    assert_eq!(missing(b""), Ok(8));
    assert!(FirstPacket::parse(b"").is_err());
    assert!(FirstPacket::parse(&[0, 0, 0, 9, 0, 3, 0, 0]).is_err());
}

#[test]
fn an_ordinary_startup() {
    let read = startup(
        0,
        b"user\0gr_1\0database\0orders\0application_name\0psql\0client_encoding\0UTF8\0\0",
    )
    .unwrap();
    assert_eq!((read.user.as_str(), read.database.as_deref()), ("gr_1", Some("orders")));
    assert_eq!(
        read.settings,
        owned(&[("application_name", "psql"), ("client_encoding", "UTF8")])
    );
    assert_eq!((read.replication, read.version()), (Replication::No, 0));
    assert_eq!(read.application_name(), Some("psql"));
    let mut out = BytesMut::new();
    read.negotiate(&mut out);
    assert!(out.is_empty());
}

#[test]
fn an_empty_database_is_none() {
    assert_eq!(startup(0, b"user\0a\0database\0\0\0").unwrap().database, None);
}

#[test]
fn layout_is_checked_as_postgresql_does() {
    for body in [
        &b""[..],
        b"user\0a\0",
        b"user\0a",
        b"user\0\0",
        b"user\0a\0database\0\0",
        b"user\0a\0\0x",
        b"user\0a\0\0\0",
        b"user",
    ] {
        assert_eq!(startup(0, body), Err(StartupError::Layout), "{}", body.escape_ascii());
    }
    assert_eq!(startup(0, b"\0"), Err(StartupError::NoUser));
    assert_eq!(startup(0, b"user\0\0database\0x\0\0"), Err(StartupError::NoUser));
}

#[test]
fn a_name_twice_is_refused() {
    for body in [
        &b"user\0a\0user\0b\0\0"[..],
        b"user\0a\0DateStyle\0ISO\0datestyle\0SQL\0\0",
        b"user\0a\0User\0b\0\0",
    ] {
        assert!(
            matches!(startup(0, body), Err(StartupError::Twice { .. })),
            "{}",
            body.escape_ascii()
        );
    }
}

#[test]
fn too_many_settings_are_refused() {
    let mut body = b"user\0a\0options\0".to_vec();
    for n in 0..MAX_SETTINGS {
        body.extend_from_slice(format!("-c a{n}=1 ").as_bytes());
    }
    let fits = [&body[..], b"\0\0"].concat();
    assert_eq!(settings(&fits).len(), MAX_SETTINGS);
    let over = [&body[..], b"\0b\x001\0\0"].concat();
    assert_eq!(startup(0, &over), Err(StartupError::TooMany { limit: MAX_SETTINGS }));
    let mut body = b"user\0a\0".to_vec();
    for n in 0..MAX_SETTINGS {
        body.extend_from_slice(format!("a{n}\x001\0").as_bytes());
    }
    body.push(0);
    assert_eq!(startup(0, &body), Err(StartupError::TooMany { limit: MAX_SETTINGS }));
}

#[test]
fn settings_of_the_packet_outweigh_options() {
    assert_eq!(
        settings(b"user\0a\0DateStyle\0SQL\0options\0-c datestyle=ISO -c x=1 --x=2\0\0"),
        owned(&[("DateStyle", "SQL"), ("x", "2")])
    );
}

#[test]
fn names_are_cut_between_characters() {
    let (user, database) = ("x".repeat(300), "y".repeat(MAX_DATABASE_BYTES - 1));
    let packet = format!("user\0{user}\0database\0{database}é\0application_name\0{user}\0\0");
    let read = startup(0, packet.as_bytes()).unwrap();
    assert_eq!(read.user, "x".repeat(MAX_USER_BYTES));
    assert_eq!(read.database, Some(database));
    assert_eq!(read.application_name(), Some("x".repeat(MAX_NAME_BYTES).as_str()));
}

#[test]
fn bytes_that_are_not_utf8() {
    let read = startup(0, b"user\0a\xff\0application_name\0b\xfe\0\0").unwrap();
    assert_eq!(read.user, "a\\xff");
    assert_eq!(read.application_name(), Some("b\\xfe"));
    assert_eq!(startup(0, b"user\0a\0search_path\0\xe4\0\0"), Err(StartupError::NotUtf8));
}

#[test]
fn replication_is_read_as_postgresql_does() {
    let read = |value: &str| startup(0, format!("user\0a\0replication\0{value}\0\0").as_bytes()).map(|s| s.replication);
    for value in ["true", "t", "ON", "on", "1", "yes", "Y"] {
        assert_eq!(read(value), Ok(Replication::Physical), "{value}");
    }
    for value in ["false", "F", "of", "off", "0", "no"] {
        assert_eq!(read(value), Ok(Replication::No), "{value}");
    }
    assert_eq!(read("database"), Ok(Replication::Logical));
    for value in ["o", "", "2", "truex", "Database"] {
        assert_eq!(read(value), Err(StartupError::Replication), "{value}");
    }
}

#[test]
fn versions() {
    for (major, minor) in [(2, 0), (4, 0), (1234, 5681), (0, 0)] {
        let code = u32::from(major) << 16 | u32::from(minor);
        assert_eq!(
            FirstPacket::parse(&packet(code, b"user\0a\0\0")),
            Err(StartupError::Version { major, minor })
        );
    }
    for (asked, spoken, answered) in [(0, 0, false), (1, 0, true), (2, 2, false), (3, 2, true), (9999, 2, true)] {
        let read = startup(asked, b"user\0a\0\0").unwrap();
        assert_eq!(read.version(), spoken, "{asked}");
        let mut out = BytesMut::new();
        read.negotiate(&mut out);
        assert_eq!(!out.is_empty(), answered, "{asked}");
    }
}

#[test]
fn negotiation_names_version_and_extensions() {
    let read = startup(0, b"user\0a\0_pq_.first\0on\0_pq_.b\0\0\0").unwrap();
    assert!(read.settings.is_empty());
    let mut out = BytesMut::new();
    read.negotiate(&mut out);
    assert_eq!(&out[..], b"v\0\0\0\x1e\0\x03\0\0\0\0\0\x02_pq_.first\0_pq_.b\0");
    assert_eq!(usize::from(out[4]) + 1, out.len());
    out.clear();
    startup(9999, b"user\0a\0\0").unwrap().negotiate(&mut out);
    assert_eq!(&out[..], b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
}

fn likely_body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"user".to_vec()),
        Just(b"database".to_vec()),
        Just(b"options".to_vec()),
        Just(b"replication".to_vec()),
        Just(b"_pq_.x".to_vec()),
        Just(b"-c a=b".to_vec()),
        Just(b"on".to_vec()),
        Just(b"".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..9),
    ];
    proptest::collection::vec(word, 0..12).prop_map(|words| words.join(&0))
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = missing(&bytes);
        let _ = FirstPacket::parse(&bytes);
    }

    #[test]
    fn likely_packets_do_not_panic_and_stay_small(minor in any::<u16>(), body in likely_body()) {
        if let Ok(read) = startup(minor, &body) {
            prop_assert!(!read.user.is_empty() && read.user.len() <= MAX_USER_BYTES);
            prop_assert!(read.settings.len() <= MAX_SETTINGS);
            let kept: usize = read.settings.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(kept <= body.len() * 4);
        }
    }

    #[test]
    fn pieces_make_no_difference(
        code in prop_oneof![Just(SSL_REQUEST_CODE), Just(GSSENC_REQUEST_CODE), Just(CANCEL_REQUEST_CODE), Just(0x0003_0002), any::<u32>()],
        body in likely_body(),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
        sizes in proptest::collection::vec(1_usize..20, 0..20),
    ) {
        let first = packet(code, &body);
        let stream = [first.clone(), behind].concat();
        let (read, used) = read_in_pieces(&stream, &sizes);
        prop_assert_eq!(used, first.len());
        prop_assert_eq!(read, FirstPacket::parse(&first).map(Some));
    }

    #[test]
    fn pieces_of_rubbish_make_no_difference(stream in proptest::collection::vec(any::<u8>(), 0..40), sizes in proptest::collection::vec(1_usize..9, 0..9)) {
        let (pieces, _) = read_in_pieces(&stream, &sizes);
        let (whole, _) = read_in_pieces(&stream, &[usize::MAX]);
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn options_and_packet_give_the_same(name in "[a-z]{3,9}", value in "[a-zA-Z0-9_]{0,9}") {
        prop_assume!(!["user", "options", "database", "replication"].contains(&name.as_str()));
        let inside = settings(format!("user\0a\0options\0--{name}={value}\0\0").as_bytes());
        let own = settings(format!("user\0a\0{name}\0{value}\0\0").as_bytes());
        prop_assert_eq!(inside, own);
    }
}
