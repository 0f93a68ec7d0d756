//! Sign-ins of terminals by a browser on the same machine: a signed-in person lets a program in, the browser takes a code to it, and the
//! program exchanges the code for a sign-in of its own.
//!
//! It opens no connection to the program (RFC 8252, section 7.3: the browser does, on a loopback address).
//!
//! INVARIANT: a code is good once, for a minute, for the program that has the verifier of its challenge (RFC 7636); the sign-in that
//! it gives is as old as the person's own, and lasts no longer.

use std::collections::VecDeque;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::one_time_secrets::{challenge_of, digest, is_challenge, random};
use super::{AccessError, AccessService, Caller};
use crate::base::secret::Secret;
use crate::ledger::SignInView;
use crate::model::sign_in::SignInVia;

/// Time in which the program has to come with its code.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(1);
/// Number of codes at a time; one more displaces the oldest. Only people who have signed in make any.
const MAX_CODES: usize = 1_000;

struct AwaitedTerminal {
    code: [u8; 32],
    challenge: String,
    caller: Caller,
    since: Timestamp,
}

/// Terminals that were let in and have not come yet, the oldest first.
#[derive(Default)]
pub(super) struct AwaitedTerminals(Mutex<VecDeque<AwaitedTerminal>>);

impl AwaitedTerminals {
    fn add(&self, terminal: AwaitedTerminal) {
        let mut awaited = self.0.lock();
        while awaited.front().is_some_and(|oldest| is_over(oldest, terminal.since)) || awaited.len() >= MAX_CODES {
            awaited.pop_front();
        }
        awaited.push_back(terminal);
    }

    /// Returns who has let the program in that comes with this code, once; `None` if the code or the verifier is another, or too late.
    fn take(&self, code: &Secret<String>, verifier: &Secret<String>, now: Timestamp) -> Option<Caller> {
        let (code, challenge) = (digest(code.expose()), challenge_of(verifier));
        let mut awaited = self.0.lock();
        // Who has only seen the code does not use it up.
        let found = awaited
            .iter()
            .position(|terminal| terminal.code == code && terminal.challenge == challenge)?;
        let terminal = awaited.remove(found)?;
        (!is_over(&terminal, now)).then_some(terminal.caller)
    }
}

fn is_over(terminal: &AwaitedTerminal, now: Timestamp) -> bool {
    now.duration_since(terminal.since) >= MAX_AGE
}

impl AccessService {
    /// Lets the program in that has the verifier of `challenge`. Returns the code for it.
    pub fn let_terminal_in(&self, caller: &Caller, challenge: &str) -> Result<Secret<String>, AccessError> {
        caller.person()?;
        if !is_challenge(challenge) {
            let wrong = "the challenge is not a SHA-256 in base64url; begin in the terminal: tidegate login --browser";
            return Err(AccessError::Invalid(wrong.to_owned()));
        }
        let code = random()?;
        self.0.terminals.add(AwaitedTerminal {
            code: digest(code.expose()),
            challenge: challenge.to_owned(),
            caller: caller.clone(),
            since: self.0.clock.now(),
        });
        Ok(code)
    }

    /// Signs the program in that comes with a code and its verifier. Returns the secret of the sign-in, which nothing else has.
    pub async fn finish_terminal_sign_in(
        &self,
        code: &Secret<String>,
        verifier: &Secret<String>,
        client: Option<IpAddr>,
    ) -> Result<(SignInView, Secret<String>), AccessError> {
        let caller = self.0.terminals.take(code, verifier, self.0.clock.now());
        self.new_sign_in(&caller.ok_or(AccessError::NoSuchCode)?, SignInVia::Cli, client)
            .await
    }
}
