//! Selection of the gate and the token: from the command line, the environment, the login, or the configuration of a gate on
//! this machine.
//!
//! It connects to nothing. One pure function, [`choose`], decides the order.
//!
//! INVARIANT: a login's token goes to no other gate than the one it was made for, and the admin token to this machine only.

use std::path::{Path, PathBuf};

use super::address::ControlEndpoint;
use super::args::GatePlace;
use super::client_error::{ClientError, TokenWords};
use super::stored_login::{self, StoredLogin};
use crate::base::secret::Secret;
use crate::base::tls::GateTrust;
use crate::config::{self, ConfigMistake, ControlAddress};

/// Help text about the selection.
pub(super) const ENDPOINT_HELP: &str = "\
Source of the gate's address and your token (first one found):
  1. --control and --token-file
  2. TIDEGATE_CONTROL; TIDEGATE_TOKEN (a token) or TIDEGATE_TOKEN_FILE (its file)
  3. the login stored by `tidegate login`
  4. the gate's own configuration and admin token, if they are on this machine
Commands for operators (grant, session, log, user) try 4 before 3. A login's
token is sent only to its own gate, the admin token only within this machine.
The certificate of an https:// gate is checked with TIDEGATE_CA (a file) or
TIDEGATE_TRUST (its SHA-256), with the login's --ca or --trust, or with the CAs
of this machine.";

/// Usual caller of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsualCaller {
    /// Person, under their own name.
    Person,
    /// Operator of the gate.
    Operator,
}

/// Settings from the environment.
#[derive(Debug, Default)]
pub(super) struct EndpointEnvironment {
    pub(super) control: Option<String>,
    pub(super) token: Option<Secret<String>>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) trust: Option<String>,
    pub(super) ca: Option<PathBuf>,
}

impl EndpointEnvironment {
    /// Reads the environment; an empty variable counts as unset.
    pub(super) fn read() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            control: variable("TIDEGATE_CONTROL"),
            token: variable("TIDEGATE_TOKEN").map(Secret::new),
            token_file: variable("TIDEGATE_TOKEN_FILE").map(PathBuf::from),
            trust: variable("TIDEGATE_TRUST"),
            ca: variable("TIDEGATE_CA").map(PathBuf::from),
        }
    }
}

impl GatePlace {
    /// Returns true if the command line or the environment names a gate.
    pub(super) fn is_named(&self) -> bool {
        self.control.is_some() || self.token_file.is_some() || EndpointEnvironment::read().control.is_some()
    }
}

/// Source of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenFrom {
    /// File named by the user.
    File(PathBuf),
    /// Environment variable.
    Environment(Secret<String>),
    /// Stored login.
    Login(PathBuf),
    /// Configuration of the gate.
    Admin(PathBuf),
}

impl TokenFrom {
    /// Returns the description of the token and the remedy, for a token that is not accepted.
    pub(super) fn words(&self) -> TokenWords {
        let words = |what, remedy| TokenWords { what, remedy };
        match self {
            Self::Environment(_) => words(
                "the token in TIDEGATE_TOKEN".to_owned(),
                "set a valid one, or unset it and log in: tidegate login",
            ),
            Self::File(path) => words(
                format!("the token in {}", path.display()),
                "replace it with a valid one, or log in: tidegate login",
            ),
            Self::Login(_) => words("the token of your login".to_owned(), "log in again: tidegate login"),
            Self::Admin(path) => words(
                format!("the admin token in {}", path.display()),
                "does another gate answer there?",
            ),
        }
    }
}

/// Gate on this machine, by its configuration.
type ConfiguredGate = Result<ControlAddress, Vec<ConfigMistake>>;

/// Selects the gate's address, the basis of its trust, and the token's source.
pub(super) fn find(
    whose: UsualCaller,
    config: &Path,
    place: &GatePlace,
) -> Result<(ControlEndpoint, GateTrust, TokenFrom), ClientError> {
    let login = stored_login::load()?;
    let environment = EndpointEnvironment::read();
    let (address, from) = choose(whose, place, &environment, login.as_ref(), || {
        config.exists().then(|| config::control_address(config))
    })?;
    let trust = trust(&address, &environment, login.as_ref())?.unwrap_or_default();
    Ok((address, trust, from))
}

/// Returns the basis on which the gate at `address` is trusted: from the environment, or from the login made with it.
pub(super) fn trust(
    address: &ControlEndpoint,
    environment: &EndpointEnvironment,
    login: Option<&StoredLogin>,
) -> Result<Option<GateTrust>, ClientError> {
    if let Some(pin) = &environment.trust {
        let pin = pin.parse().map_err(|_| ClientError::Fingerprint(pin.clone()))?;
        return Ok(Some(GateTrust::Pin(pin)));
    }
    let by_login = || login.filter(|login| login.control == *address)?.trust.clone();
    Ok(environment.ca.clone().map(GateTrust::Ca).or_else(by_login))
}

/// Selects the gate's address and the token's source, in the order that [`ENDPOINT_HELP`] states.
pub(super) fn choose(
    whose: UsualCaller,
    flags: &GatePlace,
    environment: &EndpointEnvironment,
    login: Option<&StoredLogin>,
    configured: impl FnOnce() -> Option<ConfiguredGate>,
) -> Result<(ControlEndpoint, TokenFrom), ClientError> {
    let given = flags.control.as_deref().or(environment.control.as_deref());
    let given = given.map(str::parse::<ControlEndpoint>).transpose()?;
    let token = given_token(flags, environment);
    if let (Some(address), Some(token)) = (&given, &token) {
        return Ok((address.clone(), token.clone()));
    }
    let login = login.filter(|login| given.as_ref().is_none_or(|given| *given == login.control));
    let by_login = |login: &StoredLogin| (login.control.clone(), TokenFrom::Login(login.token_file.clone()));
    let (home, its_token) = match (whose, login) {
        (UsualCaller::Person, Some(login)) => by_login(login),
        (_, login) => match (configured(), login) {
            // A user who cannot read the admin token is not this gate's operator, but may be one under their own name.
            (Some(Ok(here)), Some(login)) if std::fs::File::open(&here.token_file).is_err() => by_login(login),
            (Some(Ok(here)), _) => (ControlEndpoint::Unix(here.socket), TokenFrom::Admin(here.token_file)),
            (_, Some(login)) => by_login(login),
            (Some(Err(mistakes)), None) => return Err(ClientError::Config(mistakes)),
            (None, None) => return Err(given.map_or(ClientError::Nowhere, ClientError::NoToken)),
        },
    };
    let (address, token) = (given.unwrap_or(home), token.unwrap_or(its_token));
    // The admin token must not go to another machine, or over a network on the way there.
    if address.is_exposed() && matches!(token, TokenFrom::Admin(_)) {
        return Err(ClientError::NoToken(address));
    }
    Ok((address, token))
}

/// Returns only the address, for a new login. A stored login that cannot be read is about to be replaced.
pub(super) fn place(config: &Path, place: &GatePlace) -> Result<ControlEndpoint, ClientError> {
    let environment = EndpointEnvironment::read();
    if let Some(given) = place.control.as_deref().or(environment.control.as_deref()) {
        return Ok(given.parse()?);
    }
    if let Ok(Some(login)) = stored_login::load() {
        return Ok(login.control);
    }
    if !config.exists() {
        return Err(ClientError::Nowhere);
    }
    let configured = config::control_address(config).map_err(ClientError::Config)?;
    Ok(ControlEndpoint::Unix(configured.socket))
}

/// Returns the source of the token that the user specified, if any.
pub(super) fn given_token(flags: &GatePlace, environment: &EndpointEnvironment) -> Option<TokenFrom> {
    let flag = flags.token_file.clone().map(TokenFrom::File);
    flag.or_else(|| environment.token.clone().map(TokenFrom::Environment))
        .or_else(|| environment.token_file.clone().map(TokenFrom::File))
}

/// Reads the token from its source.
pub(super) fn token(from: &TokenFrom) -> Result<Secret<String>, ClientError> {
    let (path, remedy) = match from {
        TokenFrom::Environment(token) => return Ok(Secret::new(token.expose().trim().to_owned())),
        TokenFrom::File(path) => (path, "set a file with a token"),
        TokenFrom::Login(path) => (path, "log in again: tidegate login"),
        TokenFrom::Admin(path) => (
            path,
            "the gate creates it at its first start, readable only by its owner; to use your own name: tidegate login",
        ),
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text.trim().to_owned())),
        Err(reason) => Err(ClientError::Token {
            path: path.clone(),
            reason,
            remedy,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(control: Option<&str>, token_file: Option<&str>) -> GatePlace {
        GatePlace {
            control: control.map(str::to_owned),
            token_file: token_file.map(PathBuf::from),
        }
    }

    fn login() -> StoredLogin {
        StoredLogin {
            control: ControlEndpoint::Tcp("gate:1".to_owned()),
            identity: "ana".to_owned(),
            trust: None,
            token_file: "/login".into(),
        }
    }

    /// A gate on this machine whose admin token can be read.
    fn here(token_file: &str) -> ControlAddress {
        ControlAddress {
            socket: "/here.sock".into(),
            token_file: token_file.into(),
            audit_dir: "/audit".into(),
            audit_key: "/audit-key.pem".into(),
            ledger: "/ledger.sqlite".into(),
        }
    }

    fn chosen(
        whose: UsualCaller,
        flags: &GatePlace,
        environment: &EndpointEnvironment,
        login: Option<&StoredLogin>,
        token: Option<&str>,
    ) -> String {
        match choose(whose, flags, environment, login, || token.map(|token| Ok(here(token)))) {
            Ok((address, TokenFrom::File(path))) => format!("{address} file {}", path.display()),
            Ok((address, TokenFrom::Environment(_))) => format!("{address} environment"),
            Ok((address, TokenFrom::Login(_))) => format!("{address} login"),
            Ok((address, TokenFrom::Admin(_))) => format!("{address} admin"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn flags_then_environment_then_login_then_configuration() {
        let (none, nothing, readable) = (remote(None, None), EndpointEnvironment::default(), Some("/dev/null"));
        let environment = || EndpointEnvironment {
            control: Some("http://env:1".to_owned()),
            token: Some(Secret::new("t".to_owned())),
            token_file: Some("/env".into()),
            ..EndpointEnvironment::default()
        };
        let ana = login();
        let person = |flags: &GatePlace, environment: &EndpointEnvironment, login: Option<&StoredLogin>, token| {
            chosen(UsualCaller::Person, flags, environment, login, token)
        };
        let flags = remote(Some("http://flag:1"), Some("/flag"));
        assert_eq!(
            person(&flags, &environment(), Some(&ana), readable),
            "http://flag:1 file /flag"
        );
        assert_eq!(
            person(&none, &environment(), Some(&ana), readable),
            "http://env:1 environment"
        );
        let by_file = EndpointEnvironment {
            token: None,
            ..environment()
        };
        assert_eq!(person(&none, &by_file, Some(&ana), readable), "http://env:1 file /env");
        assert_eq!(person(&none, &nothing, Some(&ana), readable), "http://gate:1 login");
        assert_eq!(person(&none, &nothing, None, readable), "unix:/here.sock admin");
        // Half of it given: the other half comes from the next place.
        let token_only = EndpointEnvironment {
            control: None,
            ..environment()
        };
        assert_eq!(person(&none, &token_only, Some(&ana), readable), "http://gate:1 environment");
        assert!(person(&none, &nothing, None, None).contains("tidegate login"));
    }

    #[test]
    fn operators_use_the_gate_they_are_at() {
        let (none, nothing, ana) = (remote(None, None), EndpointEnvironment::default(), login());
        let operator = |token| chosen(UsualCaller::Operator, &none, &nothing, Some(&ana), token);
        assert_eq!(operator(Some("/dev/null")), "unix:/here.sock admin");
        assert_eq!(operator(Some("/nonexistent")), "http://gate:1 login");
        assert_eq!(operator(None), "http://gate:1 login");
    }

    #[test]
    fn trust_is_that_of_the_environment_or_of_the_login_with_that_gate() {
        let (ca, pin) = (GateTrust::Ca("/ca".into()), "ab".repeat(32));
        let ana = StoredLogin {
            trust: Some(ca.clone()),
            ..login()
        };
        let (here, there) = (ana.control.clone(), ControlEndpoint::Tls("elsewhere:1".to_owned()));
        let of =
            |address: &ControlEndpoint, environment: &EndpointEnvironment| trust(address, environment, Some(&ana)).ok().flatten();
        let mut environment = EndpointEnvironment::default();
        assert_eq!(of(&here, &environment), Some(ca));
        assert_eq!(of(&there, &environment), None);
        environment.ca = Some("/env".into());
        assert_eq!(of(&here, &environment), Some(GateTrust::Ca("/env".into())));
        environment.trust = Some(pin.clone());
        assert_eq!(of(&there, &environment), Some(GateTrust::Pin(pin.parse().unwrap())));
        environment.trust = Some("abc".to_owned());
        assert_eq!(trust(&here, &environment, None).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_logins_token_goes_to_no_other_gate() {
        let (nothing, ana) = (EndpointEnvironment::default(), login());
        for whose in [UsualCaller::Person, UsualCaller::Operator] {
            let elsewhere = remote(Some("http://elsewhere:1"), None);
            let said = chosen(whose, &elsewhere, &nothing, Some(&ana), None);
            assert!(said.starts_with("no token for http://elsewhere:1"), "{said}");
            let same = remote(Some("http://gate:1/"), None);
            assert_eq!(chosen(whose, &same, &nothing, Some(&ana), None), "http://gate:1 login");
        }
    }

    #[test]
    fn the_admin_token_stays_on_this_machine() {
        let nothing = EndpointEnvironment::default();
        for whose in [UsualCaller::Person, UsualCaller::Operator] {
            let to = |control| chosen(whose, &remote(Some(control), None), &nothing, None, Some("/dev/null"));
            let said = to("http://elsewhere:1");
            assert!(said.starts_with("no token for http://elsewhere:1"), "{said}");
            let said = to("http://localhost.example.org:1");
            assert!(said.starts_with("no token for"), "{said}");
            assert_eq!(to("http://127.0.0.1:1"), "http://127.0.0.1:1 admin");
            assert_eq!(to("unix:/other.sock"), "unix:/other.sock admin");
        }
    }
}
