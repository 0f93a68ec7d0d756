//! `GET /v1/audit/verification`: the newest part of the log, verified now.
//!
//! It decides nothing about the log: the verification is that of `tidegate audit verify`, from the segment with the last
//! checkpoint on, so that it takes as long for a log of any size.
//!
//! INVARIANT: the answer says which lines were read; nothing is claimed of others.

use std::path::PathBuf;

use axum::{Extension, Json};

use super::ControlContext;
use super::authenticate::Call;
use super::long_poll::LongPollLimiter;
use super::model::VerificationBody;
use super::problem::ApiError;
use crate::audit::RememberedTip;
use crate::audit::key::{PublicKey, public_path};
use crate::audit::verify::{LogFlaw, SavedCheckpoint, UnreadableError, VerifyExpectation, VerifyReport, verify_folder};

/// Log of this gate, with what it has to be verified with.
pub(super) struct VerifiedLog {
    pub(super) dir: PathBuf,
    /// Public key of this gate, if its file can be read.
    pub(super) key: Option<PublicKey>,
    /// End of the log as the ledger knows it.
    ledger: Option<SavedCheckpoint>,
}

impl VerifiedLog {
    pub(super) async fn of(gate: &ControlContext) -> Result<Self, ApiError> {
        let tip = gate.service.log_tip().await?;
        let tip = RememberedTip::of_ledger(tip.as_ref().map(|tip| tip.line.as_str()));
        let key = tokio::fs::read_to_string(public_path(&gate.journal.settings().key)).await;
        Ok(Self {
            dir: gate.audit_dir.clone(),
            key: key.ok().and_then(|key| key.parse().ok()),
            ledger: tip.kept().cloned(),
        })
    }

    /// Verifies the log from its beginning. Blocks.
    pub(super) fn verify(&self) -> Result<VerifyReport, UnreadableError> {
        let expected = VerifyExpectation {
            key: self.key,
            ledger: self.ledger.clone(),
            from_start: true,
            ..VerifyExpectation::default()
        };
        verify_folder(&self.dir, &expected, |_| {})
    }

    /// Verifies the log from the segment with the last known checkpoint on; a gap on record there is a flaw. Blocks.
    fn verify_newest(&self) -> Result<VerifyReport, UnreadableError> {
        let beside = || SavedCheckpoint::beside(&self.dir).ok().flatten();
        let expected = VerifyExpectation {
            key: self.key,
            kept: self.ledger.clone().or_else(beside),
            skip: true,
            ..VerifyExpectation::default()
        };
        verify_folder(&self.dir, &expected, |_| {})
    }
}

impl Call {
    /// Verifies the newest part of the log, for those who may read the log.
    pub async fn verification(&self, limiter: &LongPollLimiter) -> Result<VerificationBody, ApiError> {
        let reader = self.log_reader(limiter).await?;
        let log = VerifiedLog::of(&self.gate).await?;
        if log.key.is_none() {
            // With the log's own key it would prove nothing.
            return Err(ApiError::Log(
                "the file of the gate's public key, beside its audit key, cannot be read".to_owned(),
            ));
        }
        let checked_at = self.gate.clock.now();
        let report = limiter.log.read(&self.caller, move || log.verify_newest()).await?;
        let report = report.map_err(|error| ApiError::Log(error.to_string()))?;
        reader.still_allowed()?;
        // Who reads the log need not know where it is.
        let report = report.without_folder(&self.gate.audit_dir);
        Ok(VerificationBody {
            whole: report.is_whole(),
            flaw: report.flaw.as_ref().map(ToString::to_string),
            remedy: report.flaw.as_ref().map(|flaw| LogFlaw::remedy(flaw).to_owned()),
            first: report.first,
            last: report.last,
            proven: report.proven,
            remarks: report.remarks,
            checked_at,
        })
    }
}

#[utoipa::path(get, path = "/v1/audit/verification", tag = "log", summary = "Verifies the newest part of the audit log (operators, and with `read-log`)", responses((status = 200, description = "Result for the lines from the segment with the last checkpoint on", body = VerificationBody)))]
pub(super) async fn verification(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
) -> Result<Json<VerificationBody>, ApiError> {
    Ok(Json(call.verification(&limiter).await?))
}
