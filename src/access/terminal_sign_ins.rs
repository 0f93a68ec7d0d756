//! Sign-ins of terminals by a browser on the same machine: a person lets a program in, the browser takes a code to it, and the program
//! exchanges the code for a sign-in of its own.
//!
//! It opens no connection to the program (RFC 8252, section 7.3: the browser does, on a loopback address).
//!
//! INVARIANT: a code is good once, for a minute, for the program that has the verifier of its challenge (RFC 7636); a sign-in that it
//! gives to somebody who has signed in is as old as theirs, and ends no later.

use std::net::IpAddr;

use jiff::SignedDuration;

use super::awaited::AwaitedLimits;
use super::one_time_secrets::{challenge_of, is_challenge, random_secret};
use super::{AccessError, AccessService, Caller};
use crate::base::secret::Secret;
use crate::ledger::{LedgerError, SignInView};
use crate::model::sign_in::SignInVia;

/// Time in which the program has to come with its code.
const CODE_LIFE: SignedDuration = SignedDuration::from_mins(1);
/// Numbers of codes, in all and of one identity.
pub(super) const TERMINAL_LIMITS: AwaitedLimits = AwaitedLimits {
    all: 1_000,
    of_group: 10,
};

impl AccessService {
    /// Lets the program in that has the verifier of `challenge`. Returns the code for it.
    pub fn let_terminal_in(&self, caller: &Caller, challenge: &str) -> Result<Secret<String>, AccessError> {
        let name = caller.person()?.name().clone();
        if !is_challenge(challenge) {
            let wrong = "the challenge is not a SHA-256 in base64url; begin in the terminal: tidegate login --browser";
            return Err(AccessError::Invalid(wrong.to_owned()));
        }
        let code = random_secret().map_err(LedgerError::from)?;
        let now = self.0.clock.now();
        let secrets = [code.expose().as_str(), challenge];
        self.0
            .terminals
            .add(&secrets, Some(name), (now, now + CODE_LIFE), caller.clone());
        Ok(code)
    }

    /// Signs the program in that comes with a code and its verifier. Returns the secret of the sign-in, which nothing else has.
    pub async fn finish_terminal_sign_in(
        &self,
        code: &Secret<String>,
        verifier: &Secret<String>,
        client: Option<IpAddr>,
    ) -> Result<(SignInView, Secret<String>), AccessError> {
        let secrets = [code.expose().as_str(), &challenge_of(verifier)];
        let now = self.0.clock.now();
        let caller = self.0.terminals.take(&secrets, now).ok_or(AccessError::NoSuchCode)?;
        let proved_at = caller.person()?.sign_in.as_ref().map_or(now, |sign_in| sign_in.at);
        self.new_sign_in(&caller, proved_at, (SignInVia::Cli, client)).await
    }
}
