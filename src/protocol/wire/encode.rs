//! Encoder of the messages that the gate itself sends to a client after authentication (protocol: "Message Formats", marked B).
//!
//! Messages of the target are never encoded here: they are forwarded unchanged.

use bytes::{BufMut, BytesMut};

/// Appends an AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    message(out, b'R', |body| body.put_u32(0));
}

/// Appends a ParameterStatus.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |body| {
        text(body, name);
        text(body, value);
    });
}

/// Appends a BackendKeyData: the backend's real process id with a secret key of the gate's own.
pub fn backend_key_data(out: &mut BytesMut, pid: i32, key: &[u8]) {
    message(out, b'K', |body| {
        body.put_i32(pid);
        body.put_slice(key);
    });
}

/// Appends a ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |body| body.put_u8(status));
}

/// Appends one message: type, length, and the body that `fill` writes.
pub fn message(out: &mut BytesMut, tag: u8, fill: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    fill(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a C string. A NUL inside would end it early, so it is replaced by `?`.
pub fn text(out: &mut BytesMut, text: &str) {
    for byte in text.bytes() {
        out.put_u8(if byte == 0 { b'?' } else { byte });
    }
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        let mut out = BytesMut::new();
        authentication_ok(&mut out);
        ready_for_query(&mut out, b'I');
        parameter_status(&mut out, "a", "b\0c");
        assert_eq!(&out[..], b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05IS\0\0\0\x0aa\0b?c\0");
    }
}
