//! `[console]`: how long people stay signed in.
//!
//! It signs nobody in.

use std::time::Duration;

use super::key::{keys, section};
use super::reader::TableSection;
use crate::model::sign_in::SignInLimits;

/// Shortest life of a sign-in, and shortest time without a use.
const MIN_DURATION: Duration = Duration::from_mins(1);

section! {
    /// Sign-ins of people at the console and the command line.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ConsoleTable {
        /// The longest life of a sign-in. It ends earlier with the token that it was made with.
        max_sign_in: Duration = |key| key.duration(MIN_DURATION).or(SignInLimits::default().longest);
        /// A sign-in ends when it is not used for this long.
        idle_timeout: Duration = |key| key.duration(MIN_DURATION).or(SignInLimits::default().idle);
        /// A sign-in at the console counts only from the address that it was made from, so a cookie that was stolen counts nowhere
        /// else. People whose address changes have to sign in again.
        bind_address: bool = |key| key.yes_no().or(SignInLimits::default().bind_address);
    }
}

impl ConsoleTable {
    /// Returns the limits on sign-ins.
    #[must_use]
    pub fn sign_ins(&self) -> SignInLimits {
        SignInLimits {
            longest: self.max_sign_in,
            idle: self.idle_timeout,
            bind_address: self.bind_address,
        }
    }
}
