use super::*;
use crate::database::copy::CopyStrategy;
use crate::identity::EmailVerified;
use crate::model::line::UseMode;
use crate::outbound::notify::{Audience, EventKind, MessageFormat};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const SMALLEST: &str = "[targets.orders]\naddress = \"127.0.0.1:5432\"\ndatabase = \"orders\"\nuser = \"orders_app\"\n";

/// The folder of the configuration has a name of its own in each test; it is cut out of what is compared.
fn said(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orders.password"), "s3cret\n").unwrap();
    let path = dir.path().join("tidegate.toml");
    let folder = format!("{}/", dir.path().display());
    let mistakes = from_text(&path, text).err().unwrap_or_default();
    mistakes
        .iter()
        .map(|mistake| mistake.to_string().replace(&folder, ""))
        .collect()
}

fn good(text: &str) -> GateSettings {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orders.password"), "s3cret\n").unwrap();
    from_text(&dir.path().join("tidegate.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

#[test]
fn one_target_is_a_configuration() {
    let settings = good(SMALLEST);
    assert_eq!(settings.listen, ["127.0.0.1:7432".parse().unwrap()]);
    assert_eq!(settings.advertise, "127.0.0.1:7432");
    assert_eq!(settings.plaintext, crate::gate::frontend::Plaintext::Loopback);
    assert_eq!(settings.session.warnings, [Duration::from_mins(5), Duration::from_mins(1)]);
    assert!(settings.control.socket.ends_with("tidegate-state/control.sock"));
    let target = settings.targets.first().unwrap();
    assert_eq!(
        (target.address().as_str(), target.upstream.account.user.as_str()),
        ("127.0.0.1:5432", "orders_app")
    );
    assert_eq!(target.upstream.tls.mode(), crate::base::tls::TlsMode::Prefer);
}

#[test]
fn everything_can_be_said() {
    let settings = good(
        r#"
listen = ["0.0.0.0:7432", "[::1]:7433"]
advertise = "gate.example.org:7432"
state_dir = "state"
[targets.orders]
address = "[::1]"
database = "orders_qa"
user = "orders_app"
password_file = "orders.password"
sslmode = "require"
auth = ["scram-sha-256", "md5"]
connect_timeout = "3s"
check_interval = "500ms"
replication = true
startup_parameters = ["statement_timeout"]
max_sessions = 20
application_name = "pass"
[tls]
names = ["gate.example.org"]
plaintext = "refuse"
[limits]
connections = 5_000
handshakes = 100
handshakes_per_address = 10
handshake_timeout = "5s"
[session]
warnings = ["1m", "10m", "1m"]
welcome = false
idle_timeout = "1h"
end_grace = "1s"
renew_hint = "ask in #qa"
[audit]
dir = "log"
durability = "power"
max_sql_bytes = 1024
max_parameter_bytes = 64
[control]
socket = "c.sock"
listen = "127.0.0.1:7480"
[drain]
limit = "1m"
[log]
format = "json"
level = "tidegate=debug"
"#,
    );
    assert_eq!(settings.advertise, "gate.example.org:7432");
    assert_eq!(settings.session.warnings, [Duration::from_mins(10), Duration::from_mins(1)]);
    let target = settings.targets.first().unwrap();
    assert_eq!(target.address(), "[::1]:5432");
    let password = target.upstream.account.password.as_ref();
    assert_eq!(password.map(|secret| secret.expose().as_str()), Some("s3cret"));
    assert!(!format!("{settings:?}").contains("s3cret"));
}

#[test]
fn all_mistakes_at_once_each_with_its_place() {
    let said = said(
        r#"
listen = ["localhost:7432"]
lisen = []
[targets.orders]
address = "127.0.0.1:port"
database = "orders"
usr = "orders_app"
password = "hunter2"
sslmode = "verify_full"
check_interval = 5
max_sessions = 0
[targets."or ders"]
address = "127.0.0.1"
user = "x"
[tls]
cert = "server.crt"
[session]
warnings = ["5 apples"]
welcome = "yes"
[audit]
durabilty = "power"
[control]
listen = "0.0.0.0:80"
"#,
    );
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn the_control_api_is_on_tls_where_others_can_reach_it() {
    let control = |keys: &str| format!("{SMALLEST}[control]\n{keys}\n");
    for (keys, tls) in [
        ("listen = \"127.0.0.1:7433\"", false),
        ("listen = \"127.0.0.1:7433\"\ntls = true", true),
        ("listen = \"0.0.0.0:7433\"\nallow_remote = true", true),
    ] {
        assert_eq!(good(&control(keys)).control.tls, tls, "{keys}");
    }
    let said = said(&control("listen = \"0.0.0.0:7433\"\nallow_remote = true\ntls = false"));
    insta::assert_snapshot!(said.join("\n"));
}

const CI: &str = "[[identity.issuers]]\nissuer = \"https://token.actions.githubusercontent.com\"\naudience = \"tidegate\"\n\
    jwks_url = \"https://token.actions.githubusercontent.com/.well-known/jwks\"\n";

#[test]
fn issuers_have_what_is_needed_to_verify_their_tokens() {
    let settings = good(&format!(
        "{SMALLEST}{CI}identity_claim = \"repository\"\nidentity_prefix = \"ci:\"\ngroups_claim = \"teams\"\nleeway = \"1m\"\n\
         claims = {{ repository = \"repository\", branch = \"ref\" }}\n"
    ));
    let issuer = settings.issuers.first().unwrap();
    assert_eq!(issuer.identity_claim, "repository");
    assert_eq!(issuer.claims.get("branch").map(String::as_str), Some("ref"));
    assert_eq!(issuer.leeway, Duration::from_mins(1));
    assert_eq!(issuer.email_verified, EmailVerified::Required);
    let settings = good(&format!(
        "{SMALLEST}{CI}identity_prefix = \"\"\nemail_verified = \"assumed\"\n"
    ));
    let issuer = settings.issuers.first().unwrap();
    assert_eq!((issuer.identity_claim.as_str(), issuer.identity_prefix.as_str()), ("sub", ""));
    assert_eq!(issuer.email_verified, EmailVerified::Assumed);
}

#[test]
fn an_issuer_says_how_its_names_differ_from_local_users() {
    assert_eq!(
        said(&format!("{SMALLEST}{CI}")),
        [
            "tidegate.toml:5: identity.issuers[1].identity_prefix: is missing; without it, the issuer's tokens could use the names of local \
             users; set identity_prefix = \"ci:\", or identity_prefix = \"\" if the issuer never uses the name of a local user"
        ]
    );
}

#[test]
fn what_is_wrong_with_an_issuer_is_named() {
    let said = said(&format!(
        "{SMALLEST}{CI}jwks_file = \"a\"\n[[identity.issuers]]\nissuer = \"a\"\nleeway = \"1h\"\n\
         [[identity.issuers]]\nissuer = \"b\"\naudience = \"a\"\njwks_url = \"http://b.example.org\"\nprefix = \"b\"\n\
         [[identity.issuers]]\nissuer = \"c\"\naudience = \"\"\njwks_file = \"orders.password\"\nclaims = {{ a = 1 }}\n\
         [[identity.issuers]]\nissuer = \"c\"\naudience = \"a\"\njwks_file = \"nowhere\"\nidentity_prefix = \" ab\"\n\
         [[identity.issuers]]\nissuer = \"d\"\naudience = \"a\"\njwks_url = \"https://d.example.org\"\n"
    ));
    insta::assert_snapshot!(said.join("\n"));
}

/// An issuer of people, with its own prefix and more keys.
fn people(name: &str, more: &str) -> String {
    format!(
        "[[identity.issuers]]\nissuer = \"https://{name}.example.org\"\naudience = \"tidegate\"\n\
         jwks_url = \"https://{name}.example.org/keys\"\n{more}\n"
    )
}

#[test]
fn people_sign_in_where_browsers_find_the_way() {
    let console = "[console]\naddress = \"https://gate.example.org\"\n";
    let id = |more: &str| people("id", &format!("identity_prefix = \"id:\"\n{more}"));
    let settings = good(&format!("{SMALLEST}{console}{}", id("client_id = \"gate\"")));
    let issuer = settings.issuers.first().unwrap();
    assert_eq!(
        (issuer.client.as_ref().unwrap().id.as_str(), issuer.host()),
        ("gate", "id.example.org")
    );
    let second = id("client_id = \"gate\"")
        .replace("example.org\"", "example.org/b\"")
        .replace("id:", "b:");
    // Realms of one host: each has an address of its own.
    let two = good(&format!("{SMALLEST}{console}{}{second}", id("client_id = \"gate\"")));
    let issuers = crate::identity::Issuers::default().renewed(two.issuers.clone());
    let names: Vec<_> = two.issuers.iter().map(|issuer| issuers.callback_name(issuer)).collect();
    assert_eq!(names, ["id.example.org", "id.example.org~b"]);
    let twin = second.replace("org/b\"", "org/b/\"").replace("b:", "c:");
    let nowhere = id("client_id = \"gate\"").replace("\"https://id.example.org\"", "\"id\"");
    for (text, key, words) in [
        (id("client_id = \"gate\""), "client_id", "nobody could come back"),
        (format!("{console}{}", id("client_id = \"\"")), "client_id", "it is empty"),
        (
            format!("{console}{nowhere}"),
            "client_id",
            "nobody could sign in at the issuer: it is not a URL",
        ),
        (
            format!("{console}{second}{twin}"),
            "client_id",
            "both would have one redirect address",
        ),
        (
            id("client_secret_file = \"orders.password\""),
            "client_secret_file",
            "no effect without client_id",
        ),
        (
            id("client_secret_env = \"PATH\""),
            "client_secret_env",
            "no effect without client_id",
        ),
    ] {
        let said = said(&format!("{SMALLEST}{text}"));
        assert!(
            said.len() == 1 && said[0].contains(key) && said[0].contains(words),
            "{text}: {said:?}"
        );
    }
}

#[test]
fn names_choose_what_their_clients_are_asked_for() {
    let offered = |settings: &GateSettings, user: &str| settings.oauth.offered_to(user).map(|to| to.issuer().to_owned());
    let prefixed = "identity_prefix = \"id:\"";
    // By default nobody is asked to sign in, whatever the name.
    let settings = good(&format!("{SMALLEST}{}", people("id", prefixed)));
    assert_eq!((offered(&settings, "sso"), offered(&settings, "id:ana")), (None, None));
    let oauth = format!("{prefixed}\nwire = \"oauth\"\nscope = \"openid email\"");
    let settings = good(&format!("{SMALLEST}{}{CI}identity_prefix = \"ci:\"\n", people("id", &oauth)));
    let id = Some("https://id.example.org".to_owned());
    assert_eq!(
        (offered(&settings, "sso"), offered(&settings, "id:ana")),
        (id.clone(), id.clone())
    );
    assert_eq!(
        (offered(&settings, "ci:shop/orders"), offered(&settings, "ana")),
        (None, None)
    );
    let told = settings.oauth.offered_to("sso").unwrap().refusal();
    assert!(String::from_utf8_lossy(told).contains(r#""scope":"openid email""#));
    // One that is named counts, also where its own names send a token as the password.
    let named = "[identity]\noauth_user = \"browser\"\noauth_issuer = \"https://b.example.org\"\n";
    let both = format!("{}{}", people("a", &oauth), people("b", "identity_prefix = \"b:\""));
    let settings = good(&format!("{SMALLEST}{named}{both}"));
    let b = Some("https://b.example.org".to_owned());
    assert_eq!((offered(&settings, "browser"), offered(&settings, "sso")), (b, None));
    assert_eq!(
        (offered(&settings, "b:ana"), offered(&settings, "id:ana").is_some()),
        (None, true)
    );
    // Without a prefix an issuer has no names; its people are the one name's.
    let settings = good(&format!(
        "{SMALLEST}{}",
        people("id", "identity_prefix = \"\"\nwire = \"oauth\"")
    ));
    assert_eq!((offered(&settings, "sso"), offered(&settings, "ana@example.com")), (id, None));
}

#[test]
fn what_is_wrong_with_signing_in_is_named() {
    let oauth = |prefix: &str, more: &str| format!("identity_prefix = \"{prefix}\"\nwire = \"oauth\"\n{more}");
    let unfound = |issuer: &str| {
        people("x", &oauth("x:", "")).replace("issuer = \"https://x.example.org\"", &format!("issuer = \"{issuer}\""))
    };
    let two = format!("{}{}", people("a", &oauth("a:", "")), people("b", &oauth("b:", "")));
    let said: Vec<_> = [
        two.clone(),
        format!("[identity]\noauth_issuer = \"https://c.example.org\"\n{two}"),
        format!("[identity]\noauth_user = \"gr_sso\"\n{}", people("a", &oauth("a:", ""))),
        format!("[identity]\noauth_user = \" sso\"\n{}", people("a", &oauth("a:", ""))),
        people("a", &oauth("s", "")),
        people("a", &oauth("a:", "scope = \"openid  email\"")),
        people("a", &oauth("a:", "scope = \"\"")),
        people("a", "identity_prefix = \"a:\"\nwire = \"ouath\""),
        unfound("accounts.example.org"),
        unfound("http://id.example.org"),
        unfound("https://id.example.org?tenant=qa"),
        unfound("https://id.example.org/.well-known/openid-configuration"),
        format!(
            "[identity]\noauth_issuer = \"name\"\n{}",
            unfound("name").replace("wire = \"oauth\"", "")
        ),
    ]
    .iter()
    .flat_map(|text| said(&format!("{SMALLEST}{text}")))
    .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn webhooks_have_an_address_and_a_secret() {
    let settings = good(&format!(
        "{SMALLEST}[notify]\nlink = \"https://gate.example.org\"\n[[notify.webhooks]]\nname = \"qa\"\nurl = \"https://hooks.example.org/T0\"\n\
         secret_file = \"orders.password\"\nformat = \"slack\"\nevents = [\"request_pending\", \"break_glass\"]\n"
    ));
    assert_eq!(settings.notify.link.as_deref(), Some("https://gate.example.org"));
    let hook = settings.notify.hooks.first().unwrap();
    assert_eq!(hook.secret.expose(), "s3cret");
    assert_eq!(hook.events.len(), 2);
    assert!(!format!("{settings:?}").contains("T0"), "the address is a secret");
}

#[test]
fn a_webhook_of_a_person_gets_what_concerns_a_person() {
    let hook = |more: &str| {
        let text = format!(
            "{SMALLEST}[[notify.webhooks]]\nname = \"ana\"\nurl = \"https://h\"\nsecret_file = \"orders.password\"\n{more}"
        );
        good(&text).notify.hooks.remove(0)
    };
    let anas = hook("identity = \"ana@example.com\"\nformat = \"teams\"\n");
    assert_eq!(anas.audience, Audience::Person("ana@example.com".parse().unwrap()));
    assert_eq!(anas.format, MessageFormat::Teams);
    assert_eq!(anas.events, EventKind::personal().collect());
    let less = hook("identity = \"ana@example.com\"\nevents = [\"grant_ending\"]\n");
    assert_eq!(less.events, [EventKind::GrantEnding].into());
    // Without a person it is as ever; a channel may name the events of grants.
    let channel = hook("");
    assert_eq!(
        (channel.audience, channel.events),
        (Audience::Everybody, EventKind::usual().collect())
    );
    assert_eq!(
        hook("events = [\"grant_revoked\"]\n").events,
        [EventKind::GrantRevoked].into()
    );
}

#[test]
fn what_is_wrong_with_a_webhook_is_named() {
    let said = said(&format!(
        "{SMALLEST}[notify]\nlink = \"http://gate.example.org\"\n[[notify.webhooks]]\n\
         [[notify.webhooks]]\nname = \"a\"\nformat = \"slakc\"\nevents = [\"break_gass\"]\n\
         [[notify.webhooks]]\nname = \"a\"\nurl = \"http://hooks.example.org/T0\"\nsecret_env = \"TIDEGATE_TEST_NOT_SET\"\nsecret = \"x\"\n\
         [[notify.webhooks]]\nname = \"b\"\nurl_file = \"orders.password\"\nsecret_file = \"orders.password\"\nevents = []\n\
         [[notify.webhooks]]\nname = \"c\"\nurl = \"https://h\"\nsecret_file = \"orders.password\"\nidentity = \"ana\"\n\
         events = [\"grant_ending\", \"request_pending\", \"checkpoint\"]\n\
         [[notify.webhooks]]\nname = \"d\"\nurl = \"https://h\"\nsecret_file = \"orders.password\"\nidentity = \" \"\n"
    ));
    insta::assert_snapshot!(said.join("\n"));
    assert!(!said.join("").contains("T0"));
}

#[test]
fn a_file_that_is_named_must_be_readable() {
    let said = said(&format!(
        "{SMALLEST}password_file = \"nowhere\"\nca_file = \"ca.crt\"\n[tls]\ncert = \"a\"\nkey = \"b\"\n"
    ));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_file_that_is_named_must_be_what_it_is_named_for() {
    // The password's file is neither a certificate nor a CA.
    let said = said(&format!(
        "{SMALLEST}sslmode = \"verify-full\"\nca_file = \"orders.password\"\npassword_env = \"TIDEGATE_TEST_NOT_SET\"\n\
         [tls]\ncert = \"orders.password\"\nkey = \"orders.password\"\n"
    ));
    insta::assert_snapshot!(said.join("\n"));
    assert!(!said.join("").contains("s3cret"));
}

#[test]
fn nothing_is_not_a_configuration() {
    assert_eq!(
        said(""),
        ["tidegate.toml: targets: no target is configured; add at least one: [targets.orders] with address, database and user"]
    );
}

#[test]
fn syntax_errors_have_a_line() {
    insta::assert_snapshot!(said("[targets.orders\naddress = \"x\"\nuser = \n").join("\n"));
    insta::assert_snapshot!(said("[[targets]]\nname = \"orders\"\n").join("\n"));
}

#[test]
fn a_missing_file_is_named() {
    let mistakes = load(Path::new("/nonexistent/tidegate.toml")).unwrap_err();
    assert_eq!(
        mistakes.first().map(ToString::to_string).as_deref(),
        Some(
            "/nonexistent/tidegate.toml: cannot be read: No such file or directory (os error 2); \
             set the file with --config, or write one: docs/quickstart.md has one to start from"
        )
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = read(Path::new("tidegate.toml"), &text, &|_| false);
    }

    #[test]
    fn no_value_panics(key in "[a-z_]{1,12}", value in "[-0-9a-z\"\\[\\]{}=., ]{0,20}") {
        let _ = read(Path::new("t"), &format!("[targets.a]\n{key} = {value}\n[session]\n{key} = {value}\n"), &|_| false);
    }
}

#[test]
fn what_may_be_asked_for_has_caps() {
    let load = |more: &str| from_text(Path::new("tidegate.toml"), &format!("{SMALLEST}{more}"));
    let usual = load("").unwrap().access;
    assert_eq!(
        (usual.default_sessions, usual.max_sessions, usual.max_reason_bytes),
        (10, 50, 1000)
    );
    let few = load("[access]\nmax_sessions = 5\nmax_window = \"4h\"\nmax_reason_bytes = 200\n")
        .unwrap()
        .access;
    assert_eq!((few.default_sessions, few.max_sessions), (5, 5), "a default gives way");
    assert_eq!((few.max_window, few.max_reason_bytes), (Duration::from_hours(4), 200));
    for (text, words) in [
        ("max_sessions = 5\ndefault_sessions = 6", "greater than access.max_sessions"),
        ("max_window = \"32d\"", "longest possible window, 31d"),
        (
            "max_window = \"10m\"\ndefault_window = \"30m\"",
            "longer than access.max_window",
        ),
        ("max_sessions = 4294967295", "max_sessions"),
    ] {
        let mistakes = load(&format!("[access]\n{text}\n")).unwrap_err();
        assert!(
            mistakes.iter().any(|mistake| mistake.to_string().contains(words)),
            "{text}: {mistakes:?}"
        );
    }
    let limits = load("[limits]\nprepared_bytes_per_identity = 1048576\nlog_bytes_per_second_per_identity = 65536\n")
        .unwrap()
        .limits;
    assert_eq!(
        (limits.prepared_bytes_per_identity, limits.log_bytes_per_second_per_identity),
        (1 << 20, 1 << 16)
    );
}

#[test]
fn policies_are_read_with_the_file_and_every_mistake_in_them_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.toml");
    let load = |more: &str| from_text(&path, &format!("{SMALLEST}{more}"));
    let none = load("").unwrap();
    assert!(none.policies.is_none(), "no folder, no policies");
    assert_eq!(none.targets[0].profile_names(), ["default".parse().unwrap()]);
    assert_eq!(
        (none.access.default_window, none.access.requests_per_minute),
        (Duration::from_mins(30), 30)
    );
    // A folder that is named has to be there, also if it is the default one by another name.
    for named in ["rules", "./policies"] {
        let missing = load(&format!("[policy]\ndir = \"{named}\"\n")).unwrap_err();
        assert!(missing.iter().all(ConfigMistake::is_of_policies), "{missing:?}");
    }
    let folder = dir.path().join("policies");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("schema.cedarschema"),
        include_str!("../../policies/schema.cedarschema"),
    )
    .unwrap();
    let write = |text: &str| std::fs::write(folder.join("a.cedar"), text).unwrap();
    write("@id(\"all\") permit (principal, action == Tidegate::Action::\"request\", resource);");
    assert!(load("[policy]\nzone = \"Europe/Berlin\"\n").unwrap().policies.is_some());
    write("permit (principal, action, resource);\npermit (principal, action, resource) when { context.color == 1 };");
    let wrong = load("").unwrap_err();
    assert!(
        wrong.len() > 1 && wrong.iter().all(ConfigMistake::is_of_policies),
        "{wrong:?}"
    );
    assert!(wrong[0].to_string().contains("policy.dir: a.cedar"), "{}", wrong[0]);
}

#[test]
fn profiles_and_zones_are_checked() {
    let mistakes = said(&format!(
        "{SMALLEST}profiles = [\"a\", \"b\", \"a\"]\n[policy]\nzone = \"Berlin\"\n[access]\ndefault_window = \"0s\"\n"
    ));
    assert_eq!(
        mistakes,
        [
            "tidegate.toml:5: targets.orders.profiles: \"a\" is listed twice; remove one",
            "tidegate.toml:7: policy.zone: `Berlin` is not a time zone; write its IANA name, like Europe/Berlin or UTC",
            "tidegate.toml:9: access.default_window: `0s` is too short; at least 1s",
        ]
    );
}

#[test]
fn profiles_can_say_what_they_may_do() {
    let settings = good(&format!(
        "{SMALLEST}{}",
        r#"
[targets.orders.profiles.read-only]
select = ["shop.*", "!shop.cards", "shop.cards(id, last4)"]
settings = { statement_timeout = "30s", work_mem = 1024, jit = false }
connection_limit = 10
mask = { "shop.people" = { name = "partial", mail = "hash", born = "null", cvv = { constant = "***" } } }
[targets.orders.profiles.all]
select = ["shop.*"]
usage = ["shop.*"]
execute = ["shop.fn*"]
schemas = ["shop", "util"]
create = ["shop"]
future = true
capture = ["shop.*", "!shop.events"]
rails = { statements = ["select"], need_where = true, deny_tables = ["shop.cards"], max_sql_bytes = 65536 }
"#
    ));
    let target = settings.targets.first().unwrap();
    assert!(target.has_rights());
    assert_eq!(target.profile_names(), ["read-only".parse().unwrap(), "all".parse().unwrap()]);
    insta::assert_debug_snapshot!(target.profiles);
}

#[test]
fn what_is_wrong_with_a_profile_is_named() {
    let said = said(&format!(
        "{SMALLEST}{}",
        r#"
[targets.orders.profiles.read-only]
select = ["orders", "shop.a b"]
insert = ["!shop.cards"]
delete = ["shop.cards(id)"]
slect = ["shop.*"]
connection_limit = 0
capture = ["!shop.events", "!shop.orders(id)"]
schemas = ["a.b"]
settings = { "statement timeout" = "30s", role = "postgres", work_mem = [1], a.b = 1 }
rails = { statments = [], unknown = "maybe" }
[targets.orders.profiles.none]
future = true
[targets.orders.profiles."a b"]
select = ["shop.*"]
[targets.orders.profiles.masked]
select = ["shop.*"]
[targets.orders.profiles.masked.mask]
"shop.cards" = { pan = "partal", cvv = { fixed = "*" }, id = 1979-01-01 }
"pay.cards" = { pan = "null" }
"shop.*" = { pan = "null" }
"shop.people" = "hash"
"#
    ));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_profile_is_alone_or_in_a_copy() {
    let profile = |more: &str| {
        let settings = good(&format!(
            "{SMALLEST}copies = 3\n[targets.orders.profiles.p]\nselect = [\"shop.*\"]\n{more}\n"
        ));
        assert_eq!(settings.targets[0].upstream.max_copies, 3);
        settings.targets[0].profiles[0].clone()
    };
    for (line, mode) in [
        ("", UseMode::Shared),
        ("exclusive = \"write\"", UseMode::Write),
        ("exclusive = \"all\"", UseMode::All),
        ("copy_of = \"golden\"", UseMode::Apart),
    ] {
        assert_eq!(profile(line).use_mode(), mode, "{line}");
    }
    let copy = profile("copy_of = \"golden\"\ncopy_strategy = \"clone\"").copy.unwrap();
    assert_eq!((copy.template.as_str(), copy.strategy), ("golden", CopyStrategy::Clone));
    for (lines, mistake) in [
        (
            "copy_of = \"golden\"\nexclusive = \"all\"",
            "each grant of this profile has a database of its own",
        ),
        ("copy_strategy = \"clone\"", "it has no effect without copy_of"),
        ("copy_of = \"\"", "expected the name of a database"),
        ("exclusive = \"read\"", "\"read\""),
    ] {
        let said = said(&format!(
            "{SMALLEST}[targets.orders.profiles.p]\nselect = [\"shop.*\"]\n{lines}\n"
        ));
        assert!(said.len() == 1 && said[0].contains(mistake), "{lines}: {said:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_default_where_a_rule_is_about_what_is_read() {
    let refuses = |rails: &str| {
        let settings = good(&format!(
            "{SMALLEST}[targets.orders.profiles.p]\nselect = [\"shop.*\"]\nrails = {{ {rails} }}\n"
        ));
        settings.targets[0].profiles[0].rails.as_ref().unwrap().refuse_unknown
    };
    for rule in [
        "statements = [\"!drop\"]",
        "need_where = true",
        "deny_tables = [\"shop.cards\"]",
    ] {
        assert!(refuses(rule), "{rule}");
        assert!(!refuses(&format!("{rule}, unknown = \"allow\"")), "{rule}");
    }
    for rule in ["max_sql_bytes = 1000", "need_where = false", "deny_tables = []", ""] {
        assert!(!refuses(rule), "{rule}");
    }
    assert!(refuses("unknown = \"refuse\""));
}

#[test]
fn a_profile_with_masks_has_a_schema_of_views() {
    let views = |more: &str| {
        let settings = good(&format!(
            "{SMALLEST}[targets.orders.profiles.masked]\nselect = [\"shop.*\"]\n{more}"
        ));
        let target = settings.targets.first().unwrap();
        target.profiles[0].views(&target.upstream.name).map(|views| views.to_string())
    };
    assert_eq!(views(""), None);
    let mask = "mask = { \"shop.cards\" = { pan = \"null\" } }\n";
    assert_eq!(views(mask).as_deref(), Some("tg_orders_masked"));
}

#[test]
fn the_gate_keeps_its_connections_in_the_maintenance_database() {
    let target = |more: &str| good(&format!("{SMALLEST}{more}")).targets.remove(0).upstream;
    assert_eq!(target("").maintenance_database, "postgres");
    assert_eq!(
        target("maintenance_database = \"defaultdb\"\n").maintenance_database,
        "defaultdb"
    );
}

#[test]
fn another_account_can_end_sessions() {
    let target = |text: &str| good(&format!("{SMALLEST}{text}")).targets.remove(0);
    let shared = target("");
    assert!(shared.is_ended_by_its_sessions_account() && shared.shared_account == SharedAccount::Refused);
    assert_eq!(shared.provisioner, "orders_app");
    let own = target("admin_user = \"gate\"\nadmin_password_file = \"orders.password\"\n");
    assert!(!own.is_ended_by_its_sessions_account());
    let admin = own.upstream.admin.as_ref().unwrap();
    assert_eq!(
        (admin.user.as_str(), admin.password.as_ref().unwrap().expose().as_str()),
        ("gate", "s3cret")
    );
    assert_eq!(
        target("shared_account = \"accepted\"\n").shared_account,
        SharedAccount::Accepted
    );
    let said = |text: &str| said(&format!("{SMALLEST}{text}")).join("\n");
    assert!(said("admin_user = \"orders_app\"\n").contains("also the account of the sessions"));
    assert!(said("admin_password_file = \"orders.password\"\n").contains("set the account too"));
    assert!(said("admin_user = \"\"\n").contains("a name of 1 to 63 bytes"));
    assert!(said("shared_account = \"yes\"\n").contains("accepted"));
}

#[test]
fn a_secret_that_everybody_may_read_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let text = "[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"gate\"\npassword_file = \"orders.password\"\n";
    let exposed = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        from_text(&folder.path().join("tidegate.toml"), text).unwrap().exposed
    };
    assert_eq!(exposed(0o644), std::slice::from_ref(&file));
    assert!(exposed(0o640).is_empty());
    assert!(exposed(0o600).is_empty());
}

/// Whoever applies profiles as the tables' owner may read neither the gate's password nor its webhooks'.
#[test]
fn one_target_is_read_without_the_secrets_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.toml");
    let more = "password_file = \"nowhere\"\nadmin_user = \"gate\"\nadmin_password_env = \"TIDEGATE_NOT_SET\"\n\
        [targets.other]\naddress = \"127.0.0.1:5433\"\ndatabase = \"other\"\nuser = \"other\"\npassword_file = \"nowhere\"\n\
        [[notify.webhooks]]\nname = \"a\"\nurl_file = \"nowhere\"\n";
    std::fs::write(&path, format!("{SMALLEST}{more}")).unwrap();
    assert!(load(&path).unwrap_err().len() >= 4);
    let orders = "orders".parse().unwrap();
    let owner = || Some(TargetAccount::own("owner".to_owned()));
    let read = target(&path, &orders, owner()).unwrap();
    let upstream = &read.upstream;
    assert_eq!(
        (upstream.account.user.as_str(), upstream.account.password.is_some()),
        ("orders_app", false)
    );
    assert_eq!(
        (upstream.provisioner().user.as_str(), read.provisioner.as_str()),
        ("owner", "gate")
    );
    let missing = target(&path, &orders, None).unwrap_err();
    assert_eq!(missing.len(), 2, "{missing:?}");
    let unknown = target(&path, &"payments".parse().unwrap(), owner()).unwrap_err();
    assert!(
        unknown[0]
            .to_string()
            .contains("no target is named payments; configured: orders, other")
    );
}

#[test]
fn a_target_is_not_named_as_a_command_that_takes_one() {
    for name in RESERVED_NAMES {
        let said = said(&SMALLEST.replace("targets.orders", &format!("targets.{name}")));
        assert_eq!(
            said,
            [format!(
                "tidegate.toml:1: targets.{name}: a target cannot be named `{name}`, for `tidegate request {name}` is a command of its own: give it another name"
            )]
        );
    }
}
