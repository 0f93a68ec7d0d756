//! Token that a client got from an issuer: OAUTHBEARER (RFC 7628), as libpq 18 speaks it.
//!
//! This module does not choose the names that it is offered to, and judges no token (`identify` does). It speaks to no
//! issuer; the client does.
//!
//! INVARIANT: its length is checked before it is stored, and every copy made of it here is wiped. A refusal is counted, and held
//! back, before the client is told of it in any way.

use bytes::BytesMut;

use super::error::{HandshakeError, TokenRefusalError};
use super::exchange::{ResponseKind, SASL_CONTINUE_CODE, STEP, authentication, response, sasl_start, send};
use super::refuse::dismiss;
use super::token::MAX_TOKEN_BYTES;
use super::{FailedHandshake, GreetedClient};
use crate::base::secret::Secret;
use crate::base::tls::Transport;
use crate::protocol::oauth_bearer::{Credentials, Discovery, MECHANISM, answered, credentials};

/// Maximum length of the rest of the first message: the mechanism's name, the header, and pairs that nobody asked for.
const MAX_OTHER_BYTES: usize = 1024;
const FIRST: ResponseKind = ResponseKind::sasl(MAX_TOKEN_BYTES + MAX_OTHER_BYTES);
/// The answer to a refusal has one byte. A longer one gets the error of the mechanism rather than that of a length.
const ANSWER: ResponseKind = ResponseKind::sasl(64);

/// Returns the client's token. The mechanism has no last message for a client that succeeds.
pub(super) async fn ask(transport: &mut Transport, mut out: BytesMut) -> Result<Secret<String>, HandshakeError> {
    let (_, first) = sasl_start(transport, &mut out, &[MECHANISM], &FIRST).await?;
    match credentials(&first)? {
        Credentials::Token(token) => Ok(Secret::new(token.to_owned())),
        Credentials::Discovery => Err(HandshakeError::Discovery),
        Credentials::Unusable(why) => Err(HandshakeError::Bearer(TokenRefusalError::NotAccepted { why: why.to_owned() })),
    }
}

/// Tells the client where to get a token, reads its answer, and refuses it.
pub(super) async fn turn_away(
    mut greeted: Box<GreetedClient>,
    discovery: &Discovery,
    error: HandshakeError,
) -> Box<FailedHandshake> {
    let held = greeted.budget.failed(&error, Some(&greeted.startup.user)).await;
    let telling = tell(&mut greeted.transport, discovery);
    let error = match greeted.budget.spend(STEP, telling).await {
        // Its place belongs to another client by now.
        Err(displaced @ HandshakeError::Displaced(_)) => displaced,
        Err(broken) if matches!(error, HandshakeError::Discovery) && broken.told() => broken,
        // A client may hang up here and come again with a token. Of a token that was refused the record keeps the reason,
        // however the client takes it.
        _ => error,
    };
    let GreetedClient {
        transport,
        client,
        startup,
        ..
    } = *greeted;
    Box::pin(dismiss(Some(transport), client, Some(startup), held, error)).await
}

async fn tell(transport: &mut Transport, discovery: &Discovery) -> Result<(), HandshakeError> {
    let mut out = BytesMut::new();
    authentication(&mut out, SASL_CONTINUE_CODE, discovery.refusal());
    send(transport, &mut out).await?;
    let answer = response(transport, &ANSWER).await?;
    Ok(answered(&answer)?)
}
