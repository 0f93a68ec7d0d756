//! Queue and writer thread for the gate's own messages to standard error.
//!
//! It does not format messages and does not decide which exist. `tracing-appender` is not used: it bounds lines and not bytes,
//! does not count the lines it cannot write, and prints itself (which blocks, or panics) when its output is stuck or fails.
//!
//! INVARIANT: adding a message waits for nothing but a short lock and cannot fail. Messages that standard error does not accept,
//! or not in time, are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

use crate::base::visible;

/// Maximum size of all queued messages, in bytes. Further messages are dropped.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Approximate memory of a message beyond its own bytes, so that many short ones are bounded too.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// Retry interval for an output in non-blocking mode that accepts nothing now.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Form of the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MessageForm {
    /// Line of text.
    #[default]
    Text,
    /// Line of text with colours.
    Coloured,
    /// Line of JSON.
    Json,
}

/// Queue of messages. Cheap to clone; clones share the output.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    shared: Arc<DiagnosticsShared>,
    form: MessageForm,
}

#[derive(Debug, Default)]
struct DiagnosticsShared {
    queue: Mutex<MessageQueue>,
    /// Notified when the queue or its state has changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct MessageQueue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// True while the thread writes a message.
    writing: bool,
    lost: u64,
}

impl Diagnostics {
    /// Starts the thread that writes to `output`. It ends with the process, because a stuck output can block it for ever.
    pub fn start(output: impl Write + Send + 'static, form: MessageForm) -> io::Result<Self> {
        let shared = Arc::<DiagnosticsShared>::default();
        let diagnostics = Self {
            shared: Arc::clone(&shared),
            form,
        };
        std::thread::Builder::new()
            .name("messages".to_owned())
            .spawn(move || shared.write_to(output))?;
        Ok(diagnostics)
    }

    /// Returns the number of messages dropped since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.queue.lock().lost
    }

    /// Waits until all messages so far are written or dropped, for at most `limit`. Returns false if some are left.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        let unwritten = |queue: &mut MessageQueue| queue.writing || !queue.messages.is_empty();
        let mut queue = self.shared.queue.lock();
        !self.shared.changed.wait_while_for(&mut queue, unwritten, limit).timed_out()
    }
}

impl<'a> MakeWriter<'a> for Diagnostics {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Each call is one message: `tracing_subscriber` formats an event completely and writes it at once. It escapes terminal control
/// characters, but neither invisible and bidirectional characters nor the line breaks of a text that is displayed verbatim.
impl Write for Diagnostics {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.shared.give(shown(message, self.form).as_bytes());
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiagnosticsShared {
    fn give(&self, message: &[u8]) {
        let mut queue = self.queue.lock();
        let bytes = message.len() + MESSAGE_OVERHEAD_BYTES;
        if queue.bytes + bytes > MAX_QUEUED_BYTES {
            queue.lost += 1;
            return;
        }
        queue.bytes += bytes;
        queue.messages.push_back(message.to_owned());
        drop(queue);
        self.changed.notify_all();
    }

    fn write_to(&self, mut output: impl Write) {
        let mut told = 0;
        loop {
            let message = self.take();
            let written = write_whole(&mut output, &message);
            let mut queue = self.queue.lock();
            queue.writing = false;
            queue.lost += u64::from(written.is_err());
            let lost = queue.lost - told;
            drop(queue);
            self.changed.notify_all();
            // The output accepts messages again, so the gap is reported, in a message like any other.
            if written.is_ok() && lost > 0 {
                told += lost;
                tracing::warn!(lost, "log messages were dropped: standard error was blocked");
            }
        }
    }

    /// Waits for a message and takes it.
    fn take(&self) -> Vec<u8> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(message) = queue.messages.pop_front() {
                queue.bytes -= message.len() + MESSAGE_OVERHEAD_BYTES;
                queue.writing = true;
                return message;
            }
            self.changed.wait(&mut queue);
        }
    }
}

/// Returns the message on one line, with unsafe characters of foreign text escaped.
fn shown(message: &[u8], form: MessageForm) -> String {
    let text = String::from_utf8_lossy(message);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let mut shown = match form {
        MessageForm::Json => visible::json(line).into_owned(),
        MessageForm::Text => visible::visible(line),
        MessageForm::Coloured => coloured(line),
    };
    shown.push('\n');
    shown
}

/// Escapes a line as [`visible::visible`] does, but keeps colours: `ESC [ digits m`.
fn coloured(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut parts = line.split("\u{1b}[");
    shown.push_str(&visible::visible(parts.next().unwrap_or_default()));
    for part in parts {
        let codes = part.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
        let (escape, rest) = match part.split_at_checked(codes) {
            Some((codes, rest)) if rest.starts_with('m') => (format!("\u{1b}[{codes}"), rest),
            _ => (visible::visible("\u{1b}["), part),
        };
        shown.push_str(&escape);
        shown.push_str(&visible::visible(rest));
    }
    shown
}

/// Writes like `write_all`, but also to an output in non-blocking mode: other users of a terminal or pipe may set that mode for
/// all.
fn write_whole(output: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut rest = message;
    while !rest.is_empty() {
        match output.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_INTERVAL),
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// An output that fails each time.
    struct Failing;

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_unseen_of_others_is_shown() {
        let message = b"WARN a \x1b[31mb\x1b[0m \xe2\x80\xaec\nERROR forged \x1b]0;title\x07 \xe2\x80\x8b\n";
        let text = shown(message, MessageForm::Text);
        assert_eq!(
            text,
            "WARN a \\u{1b}[31mb\\u{1b}[0m \\u{202e}c\\nERROR forged \\u{1b}]0;title\\u{7} \\u{200b}\n"
        );
        assert_eq!(
            shown(message, MessageForm::Coloured),
            "WARN a \u{1b}[31mb\u{1b}[0m \\u{202e}c\\nERROR forged \\u{1b}]0;title\\u{7} \\u{200b}\n"
        );
        let json = shown("{\"a\":\"\u{202e}\"}\n".as_bytes(), MessageForm::Json);
        assert_eq!(json, "{\"a\":\"\\u202e\"}\n");
    }

    /// What `tracing` itself makes of a message.
    #[test]
    fn a_message_is_one_line_of_what_can_be_seen() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let diagnostics = Diagnostics::start(writer, MessageForm::Text).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(diagnostics.clone())
            .with_ansi(false)
            .finish();
        let hostile = "a\nb\u{202e}c\x1b[31m";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(error = %hostile, debug = ?hostile, "of {hostile}");
        });
        assert!(Diagnostics::flush(&diagnostics, PATIENCE));
        drop(diagnostics);
        let mut read = vec![0; 4096];
        let length = reader.read(&mut read).unwrap();
        let text = std::str::from_utf8(&read[..length]).unwrap();
        assert!(text.contains("error=a") && text.contains("debug="), "{text}");
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(visible::is_unseen), "{text:?}");
    }

    #[test]
    fn messages_arrive_in_order() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut diagnostics = Diagnostics::start(writer, MessageForm::Text).unwrap();
        for message in ["one\n", "two\n", "three\n"] {
            diagnostics.write_all(message.as_bytes()).unwrap();
        }
        assert!(Diagnostics::flush(&diagnostics, PATIENCE));
        let mut read = [0; 14];
        reader.read_exact(&mut read).unwrap();
        assert_eq!((&read, diagnostics.lost()), (b"one\ntwo\nthree\n", 0));
    }

    #[test]
    fn an_output_that_is_stuck_holds_nobody_up_and_takes_no_more_memory() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut diagnostics = Diagnostics::start(writer, MessageForm::Text).unwrap();
        let message = [&[b'x'; 999][..], b"\n"].concat();
        let given = 20 * MAX_QUEUED_BYTES / message.len();
        for _ in 0..given {
            diagnostics.write_all(&message).unwrap();
        }
        assert!(diagnostics.shared.queue.lock().bytes <= MAX_QUEUED_BYTES);
        assert!(!Diagnostics::flush(&diagnostics, Duration::from_millis(10)), "nobody reads");
        let lost = diagnostics.lost();
        assert!(lost > 0 && lost < given as u64, "{lost} of {given}");
        // Read again, it goes on: what was not dropped arrives.
        let kept = (given - usize::try_from(lost).unwrap()) * message.len();
        let mut read = vec![0; kept];
        reader.read_exact(&mut read).unwrap();
        assert!(Diagnostics::flush(&diagnostics, PATIENCE));
        assert_eq!(diagnostics.lost(), lost);
    }

    #[test]
    fn an_output_that_fails_is_counted_and_its_thread_goes_on() {
        let mut diagnostics = Diagnostics::start(Failing, MessageForm::Text).unwrap();
        for _ in 0..3 {
            diagnostics.write_all(b"a message\n").unwrap();
            assert!(Diagnostics::flush(&diagnostics, PATIENCE));
        }
        assert_eq!(diagnostics.lost(), 3);
    }
}
