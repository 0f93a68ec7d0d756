use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::audit::event::{Event, Reloaded};
use crate::audit::{Journal, JournalSettings, segment};
use crate::base::tls::ServerTls;

const FAST: ForwardPace = ForwardPace {
    backoff: Backoff::new(Duration::from_millis(5), Duration::from_millis(20)),
    patience: Duration::from_millis(300),
    settle: Duration::from_millis(50),
    poll: Duration::from_millis(5),
    save: Duration::ZERO,
    behind: Duration::from_mins(1),
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A log and its forwarding.
struct House {
    dir: TempDir,
    journal: Journal,
    clock: Clock,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system(None);
        let journal = Journal::open(&JournalSettings::in_folder(dir.path()), clock.clone()).unwrap();
        Self { dir, journal, clock }
    }

    fn log(&self) -> &Path {
        &self.journal.settings().dir
    }

    async fn note(&self, detail: impl Into<String>) {
        let event = Event::Reloaded(Reloaded {
            accepted: true,
            detail: detail.into(),
        });
        self.journal.record(&event).await.unwrap();
    }

    fn forward(&self, port: u16, tls: Option<CaFile>) -> ForwarderHandle {
        let settings = ForwardSettings {
            receiver: SyslogReceiver {
                host: "localhost".to_owned(),
                port,
                tls,
            },
            hostname: "gate".to_owned(),
        };
        let position = self.dir.path().join("forward.position");
        ForwarderHandle::with_pace(&settings, self.log().to_owned(), position, self.clock.clone(), FAST).unwrap()
    }

    /// The lines of the log as they stand in its files.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for segment in segment::list(self.log()).unwrap() {
            lines.extend(io::BufRead::lines(segment.open().unwrap()).map(Result::unwrap));
        }
        lines
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    BufReader::new(timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0)
}

/// The text of the next message; its frame has to be right.
async fn message(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let read = async {
        let mut length = Vec::new();
        if stream.read_until(b' ', &mut length).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let length: usize = String::from_utf8(length).unwrap().trim_end().parse().unwrap();
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        Ok(String::from_utf8(message).unwrap())
    };
    let message = timeout(PATIENCE, read).await.expect("a message")?;
    assert!(message.starts_with("<1") && message.contains(" gate tidegate "), "{message}");
    Ok(message.get(message.find('{').unwrap()..).unwrap().to_owned())
}

/// Messages up to one with this text.
async fn up_to(stream: &mut (impl AsyncBufRead + Unpin), text: &str) -> Vec<String> {
    all_up_to(stream, text).await.unwrap()
}

/// Messages up to one with this text, if the connection has them all.
async fn all_up_to(stream: &mut (impl AsyncBufRead + Unpin), text: &str) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    loop {
        all.push(message(stream).await?);
        if all.last().unwrap().contains(text) {
            return Ok(all);
        }
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn over_tls_every_line_arrives_as_it_stands() {
    let house = House::new();
    house.note("before").await;
    let certificate = tempfile::tempdir().unwrap();
    let server = ServerTls::self_signed(certificate.path(), &["localhost".to_owned()], Clock::system(None).now()).unwrap();
    let (listener, port) = listener().await;
    let forwarder = house.forward(port, Some(Some(certificate.path().join("tls.crt"))));
    let acceptor = TlsAcceptor::from(server.config());
    let tcp = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0;
    let stream: TlsStream<TcpStream> = acceptor.accept(tcp).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut got = up_to(&mut stream, "before").await;
    house.note("after, with \u{1b}[2J and é").await;
    got.extend(up_to(&mut stream, "after").await);
    // Checkpoints are lines as any other, and go along.
    got.extend(up_to(&mut stream, "\"checkpoint\"").await);
    assert_eq!(got, house.lines()[..got.len()]);
    eventually("nothing waits", || forwarder.lag() == Duration::ZERO).await;
    assert_eq!((forwarder.sent() >= got.len() as u64, forwarder.missed()), (true, 0));
}

#[tokio::test]
async fn a_receiver_that_is_not_who_it_should_be_gets_nothing() {
    let house = House::new();
    house.note("secret").await;
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = ServerTls::self_signed(own.path(), &["localhost".to_owned()], Clock::system(None).now()).unwrap();
    ServerTls::self_signed(other.path(), &["localhost".to_owned()], Clock::system(None).now()).unwrap();
    let (listener, port) = listener().await;
    let forwarder = house.forward(port, Some(Some(other.path().join("tls.crt"))));
    let acceptor = TlsAcceptor::from(server.config());
    for _ in 0..2 {
        let tcp = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0;
        assert!(acceptor.accept(tcp).await.is_err());
    }
    assert_eq!(forwarder.sent(), 0);
    assert!(forwarder.lag() > Duration::ZERO, "what waits is seen");
}

#[tokio::test]
async fn after_a_restart_it_goes_on_where_it_was() {
    let house = House::new();
    house.note("first").await;
    let (listener, port) = listener().await;
    let forwarder = house.forward(port, None);
    let mut stream = accept(&listener).await;
    up_to(&mut stream, "first").await;
    let position = house.dir.path().join("forward.position");
    eventually("the position is kept", || position::load(&position).seq >= 2).await;
    let kept = position::load(&position);
    drop(forwarder);
    drop(stream);
    house.note("meanwhile").await;
    let _forwarder = house.forward(port, None);
    let mut stream = accept(&listener).await;
    let got = up_to(&mut stream, "meanwhile").await;
    let from = usize::try_from(kept.seq).unwrap();
    assert_eq!(
        got,
        house.lines()[from..from + got.len()],
        "nothing is left out, little is sent twice"
    );
}

#[tokio::test]
async fn what_a_receiver_may_have_lost_is_sent_again() {
    let house = House::new();
    house.note("first").await;
    let (listener, port) = listener().await;
    let _forwarder = house.forward(port, None);
    let mut stream = accept(&listener).await;
    let first = message(&mut stream).await.unwrap();
    // It closes in the middle, with more on the way.
    for note in 0..100 {
        house.note(format!("note {note}.")).await;
    }
    drop(stream);
    let mut stream = accept(&listener).await;
    let got = up_to(&mut stream, "note 99.").await;
    let lines = house.lines();
    let begin = lines.iter().position(|line| *line == got[0]).expect("a line of the log");
    assert!(begin <= 1, "all but at most {first}");
    assert_eq!(got, lines[begin..begin + got.len()]);
}

#[tokio::test]
async fn a_receiver_that_hangs_slows_nobody_and_is_left() {
    let house = House::new();
    let (listener, port) = listener().await;
    let forwarder = house.forward(port, None);
    let hanging = accept(&listener).await;
    // More than the kernel takes for a receiver that reads nothing.
    let long = "x".repeat(60_000);
    let written = async {
        for _ in 0..200 {
            house.note(long.as_str()).await;
        }
        house.note("the last").await;
    };
    timeout(PATIENCE, written).await.expect("the journal waits for nobody");
    eventually("it is seen that lines wait", || forwarder.lag() > FAST.patience).await;
    // It is left for a new connection, on which all comes from the start. Those that nobody read meanwhile were left, too.
    drop(hanging);
    let (_stream, got) = loop {
        let mut stream = accept(&listener).await;
        if let Ok(got) = all_up_to(&mut stream, "the last").await {
            break (stream, got);
        }
    };
    let lines = house.lines();
    let begin = lines.iter().position(|line| *line == got[0]).expect("a line of the log");
    assert_eq!(got, lines[begin..begin + got.len()]);
    eventually("it has caught up", || forwarder.lag() == Duration::ZERO).await;
}

#[tokio::test]
async fn before_the_gate_goes_the_last_lines_are_sent() {
    let house = House::new();
    let (listener, port) = listener().await;
    let forwarder = house.forward(port, None);
    let mut stream = accept(&listener).await;
    house.note("the last").await;
    let ((), got) = tokio::join!(forwarder.finish(PATIENCE), up_to(&mut stream, "the last"));
    assert_eq!(got, house.lines()[..got.len()]);
    drop((stream, listener));
    // Nobody is there: it is not waited for longer than allowed.
    timeout(PATIENCE, forwarder.finish(Duration::from_millis(20))).await.unwrap();
}

#[tokio::test]
async fn the_newest_checkpoint_is_put_into_the_outbox() {
    use crate::outbound::notify::{Audience, EventKind, MessageFormat, NotifySettings, Webhook};
    let house = House::new();
    let (received, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let app = axum::Router::new().fallback(move |body: String| {
        let received = received.clone();
        async move { received.send(body).map_err(|_| axum::http::StatusCode::GONE) }
    });
    let (listener, port) = listener().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    let hook = Webhook {
        name: "keeper".to_owned(),
        url: crate::base::secret::Secret::new(format!("http://127.0.0.1:{port}/")),
        secret: crate::base::secret::Secret::new("shared".to_owned()),
        format: MessageFormat::Json,
        audience: Audience::Everybody,
        events: [EventKind::Checkpoint].into(),
    };
    let settings = NotifySettings {
        hooks: vec![hook],
        link: None,
        buttons: false,
    };
    let notifier = Notifier::start(&house.dir.path().join("outbox"), settings, house.clock.clone()).unwrap();
    let task = tokio::spawn(checkpoints(house.log().to_owned(), Duration::from_millis(20), notifier));
    house.note("something").await;
    let body = timeout(PATIENCE, bodies.recv()).await.unwrap().unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let kept = SavedCheckpoint::parse(body["line"].as_str().unwrap().as_bytes()).expect("a genuine checkpoint");
    assert!(body["id"] == format!("{}.{}.checkpoint", kept.checkpoint.log, kept.checkpoint.covers));
    task.abort();
}
