//! JSON form of the checkpoint's record, for the OpenAPI document: the log has it as a line, not as a value.
//!
//! This type is never constructed. A test checks that it matches the real answer.
#![allow(dead_code, reason = "a shape is described by its derive and never made")]

use utoipa::ToSchema;

/// Signed checkpoint of the audit log, as its record.
#[derive(ToSchema)]
#[schema(as = Checkpoint)]
pub(super) struct CheckpointShape {
    /// Version of the line format.
    v: u32,
    /// Sequence number of the record.
    seq: u64,
    /// Time of the signature.
    #[schema(format = DateTime)]
    time: String,
    /// Always `checkpoint`.
    event: String,
    /// Id of the log.
    log: String,
    /// Sequence number of the last line that it covers.
    covers: u64,
    /// Chain value after that line: SHA-256, in hexadecimal digits.
    link: String,
    /// Ed25519 public key of the signature, in base 64.
    key: String,
    /// Signature in base 64.
    signature: String,
    /// First hexadecimal digits of the chain value after the record's own line.
    chain: String,
}
