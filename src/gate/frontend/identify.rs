//! Authentication of an identity by a token, in either way that a client can send one.
//!
//! This module does not know the identities: its caller passes a function that judges the token. It does not distinguish an
//! unknown name from a wrong token.
//!
//! INVARIANT: a token is requested over TLS only, or from a client on this machine if the operator allows that.

use bytes::BytesMut;

use super::error::{HandshakeError, TokenRefusalError};
use super::exchange::STEP;
use super::{Authenticated, FailedHandshake, GreetedClient, TokenInClear, bearer, token};
use crate::base::secret::Secret;
use crate::base::tls::Transport;
use crate::protocol::oauth_bearer::Discovery;

/// Way in which a client sends its token.
#[derive(Debug, Clone, Copy)]
pub enum TokenExchange<'d> {
    /// As a password in clear text.
    Password,
    /// By OAUTHBEARER, with a token of the issuer that the document is about.
    Bearer(&'d Discovery),
}

impl TokenExchange<'_> {
    async fn ask(self, transport: &mut Transport, hello: BytesMut) -> Result<Secret<String>, HandshakeError> {
        match self {
            Self::Password => token::ask(transport, hello).await,
            Self::Bearer(_) => bearer::ask(transport, hello).await,
        }
    }

    fn refused(self, error: TokenRefusalError) -> HandshakeError {
        match self {
            Self::Password => HandshakeError::Token(error),
            Self::Bearer(_) => HandshakeError::Bearer(error),
        }
    }

    async fn reject(self, greeted: Box<GreetedClient>, error: HandshakeError) -> Box<FailedHandshake> {
        match (self, &error) {
            (Self::Bearer(discovery), HandshakeError::Bearer(_) | HandshakeError::Discovery) => {
                Box::pin(bearer::turn_away(greeted, discovery, error)).await
            }
            _ => greeted.reject(error).await,
        }
    }
}

/// Asks the client for its token and has it judged; `clear` names the clients that may send one without TLS.
///
/// If this fails, the client has got its error and the connection is closed. A refused token counts against the client's address
/// like a wrong secret; a client that only asks where to get one has failed at nothing. After many failures the answer is delayed,
/// but never beyond the handshake's limit, which applies to the judge too.
pub async fn identify<T, F>(
    mut greeted: Box<GreetedClient>,
    clear: TokenInClear,
    exchange: TokenExchange<'_>,
    judge: impl FnOnce(Secret<String>) -> F,
) -> Result<(Authenticated, T), Box<FailedHandshake>>
where
    F: Future<Output = Result<T, TokenRefusalError>>,
{
    let (hello, safe) = (greeted.hello(), greeted.may_send_token(clear));
    let GreetedClient { transport, budget, .. } = &mut *greeted;
    let proving = async {
        if !safe {
            return Err(HandshakeError::TokenInClear);
        }
        let token = exchange.ask(transport, hello).await?;
        judge(token).await.map_err(|error| exchange.refused(error))
    };
    match budget.spend(STEP, proving).await {
        Ok(proved) => Ok((greeted.admit(), proved)),
        Err(error) => Err(exchange.reject(greeted, error).await),
    }
}
