//! Check of the server settings that end a target's backends when the gate's machine disappears without closing connections; for
//! `tidegate check`.
//!
//! It changes nothing, and does not judge keepalives: the gate asks for its own.

use super::RoleFault;
use super::connection::OpenConnection;
use super::finding::TargetFinding;

/// Reports the setting that ends a backend when the gate's machine disappears while the backend sends. Keepalives do not run then
/// (RFC 1122, section 4.2.3.6), and `client_connection_check_interval` detects only connections that were closed.
pub(super) async fn lost_host(session: &OpenConnection) -> Result<TargetFinding, RoleFault> {
    let names = [
        "tcp_user_timeout",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
    ];
    let columns = names.map(|name| format!("coalesce((SELECT reset_val FROM pg_settings WHERE name = '{name}'), 'unknown')"));
    let rows = session.run(&format!("SELECT {}", columns.join(", "))).await?;
    let value = |at| rows.first().and_then(|row| row.get(at)).unwrap_or("unknown");
    let keepalives = format!(
        "tcp_keepalives_idle {}, tcp_keepalives_interval {}, tcp_keepalives_count {} there; the gate asks for 30 s, 10 s, 3",
        value(1),
        value(2),
        value(3)
    );
    Ok(match value(0) {
        timeout @ ("0" | "unknown") => TargetFinding::Warning(format!(
            "tcp_user_timeout is {timeout}: if the gate's machine fails while a result is being sent, its backends live until the \
             server's system gives up (15 minutes on Linux); as superuser: ALTER SYSTEM SET tcp_user_timeout = '60s' ({keepalives})"
        )),
        timeout => TargetFinding::Good(format!(
            "if the gate's machine fails while a result is being sent, its backends end after tcp_user_timeout, {timeout} ms ({keepalives})"
        )),
    })
}
