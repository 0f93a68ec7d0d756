//! Moves captured changes from the store in a target's database to the audit log.
//!
//! It does not decide what is captured; triggers do, which `target apply` makes (`rights::capture`). It runs soon after a
//! statement's transaction, at the end of each session before that end is on record, and at the start.
//!
//! INVARIANT: a change is removed from the store only when it is on record, so none is lost; a change that is on record is not
//! recorded again, also if the gate was killed in between: the log itself says which those are. Changes of grants that this gate
//! does not know stay where they are: another gate has them in its ledger. A failure is reported, and tried again.

mod change;
mod images;
mod sessions;
mod store;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::connection::ProvisionConnectError;
use crate::audit::event::{Event, RowsChanged};
use crate::audit::values::{ParameterDisplay, ValueKey};
use crate::audit::{AuditError, EventName, Filter, Journal, ReadError, RecordBatch, SearchExtent, follow};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::database::rights::{MaskedTable, grant_role};
use crate::database::upstream::Target;
use crate::ledger::{Ledger, LedgerError, OpenSession};
use crate::model::ids::GrantId;
use crate::model::names::ProfileName;
use change::{ChangeAuthor, ChangeSource, rows};
use sessions::CapturingSessions;
pub use sessions::SessionBackend;
use store::StoreConnection;

/// Interval at which the store is looked at while there are sessions.
const BUSY_INTERVAL: Duration = Duration::from_millis(500);
/// Interval otherwise: changes past the gate are on record within this time.
const IDLE_INTERVAL: Duration = Duration::from_secs(30);
/// Interval for a target that captures nothing: changes that are left from before are on record within this time.
const UNUSED_INTERVAL: Duration = Duration::from_mins(1);
/// Time to the next attempt after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Time after which changes of grants that this gate does not know are reported: another gate moves its own within seconds.
const UNKNOWN_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);
/// Time that the end of a session waits for its changes to be on record.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Length of the values of one record, in bytes. With the escapes that its line may need it is shorter than any line that a reader
/// refuses.
const MAX_RECORD_BYTES: usize = 96 << 10;
/// Length of the records that are handed to the log together, in bytes.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// Time by which the database's clock and gate time may differ when the log is asked for changes that it has already.
const MAX_CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_hours(24);

/// Error of moving changes.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrainError {
    #[error("the target does not answer on the provisioning connection: {0}")]
    Connect(String),
    #[error("cannot read the store of changes")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("the store of changes has something else in the place of {0}")]
    Content(&'static str),
    #[error("cannot write the audit log")]
    Record(#[from] AuditError),
    #[error("cannot read the audit log")]
    Read(#[from] ReadError),
    #[error("cannot read the ledger")]
    Ledger(#[from] LedgerError),
}

impl DrainError {
    fn connect(error: ProvisionConnectError) -> Self {
        Self::Connect(display_chain(&error))
    }
}

/// Settings for the changes of a target.
#[derive(Debug, Clone)]
pub struct CaptureSettings {
    /// True if a profile captures changes.
    pub captures: bool,
    /// Masks of each profile that has some.
    pub masks: HashMap<ProfileName, Vec<MaskedTable>>,
    /// Policy of the target for values.
    pub show: ParameterDisplay,
    /// Key of masks that hash.
    pub value_key: ValueKey,
}

/// Counters of the changes of a target, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CaptureCounts {
    /// Number of changed rows that were recorded.
    pub rows: u64,
    /// Number of changed rows that were recorded and made past the gate.
    pub past_the_gate: u64,
    /// Number of changes in the store by grants that this gate does not know.
    pub unknown: u64,
    /// True while changes cannot be moved to the log.
    pub failing: bool,
}

/// Handle of the task that moves the changes of one target. Cheap to clone; the task ends with the last clone.
#[derive(Clone)]
pub struct ChangeDrain(Arc<DrainHandle>);

struct DrainHandle {
    shared: Arc<Drain>,
    task: AbortHandle,
}

impl Drop for DrainHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for ChangeDrain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChangeDrain({})", self.0.shared.place().target.name)
    }
}

/// Handles that it needs.
pub struct DrainContext {
    /// Log that the changes are recorded in.
    pub journal: Journal,
    /// Grants, which roles are named after.
    pub ledger: Ledger,
    /// Gate time.
    pub clock: Clock,
}

struct Drain {
    place: Mutex<Arc<DrainPlace>>,
    context: DrainContext,
    sessions: CapturingSessions,
    /// True once a store was seen in the database.
    has_store: AtomicBool,
    wake: Notify,
    /// Number of the last request to look at the store.
    asked: AtomicU64,
    /// Number of the last request that was carried out.
    done: watch::Sender<u64>,
    counts: Mutex<CaptureCounts>,
}

/// Parts that a reload replaces.
struct DrainPlace {
    target: Arc<Target>,
    settings: CaptureSettings,
}

/// State of the task between two looks.
#[derive(Default)]
struct DrainState {
    connection: Option<StoreConnection>,
    /// True once it is known which changes in the store the log has already.
    is_settled: bool,
    /// Changes that are on record, and may still be in the store.
    recorded: HashSet<RecordKey>,
    /// Roles of grants that this gate does not know, with changes in the store.
    unknown: Vec<String>,
    /// Time since which there are such changes, and true once that was reported.
    unknown_since: Option<(Timestamp, bool)>,
    /// Last failure that was reported.
    failure: Option<String>,
}

/// Record of a change: transaction, number of the change, and number of the rows before.
type RecordKey = (u64, u64, u64);

impl ChangeDrain {
    /// Starts the task. `former` are the sessions that a former run of the gate left open. Must be called within a tokio runtime.
    #[must_use]
    pub fn spawn(target: Arc<Target>, settings: CaptureSettings, context: DrainContext, former: &[OpenSession]) -> Self {
        let name = target.name.clone();
        let shared = Arc::new(Drain {
            place: Mutex::new(Arc::new(DrainPlace { target, settings })),
            context,
            sessions: CapturingSessions::default(),
            has_store: AtomicBool::new(false),
            wake: Notify::new(),
            asked: AtomicU64::new(0),
            done: watch::Sender::new(0),
            counts: Mutex::default(),
        });
        for open in former.iter().filter(|open| open.target == name) {
            shared.sessions.know(open.into(), open.opened_at);
        }
        let work = Arc::clone(&shared);
        let task = tokio::spawn(restarted("moving captured changes to the log", move || {
            Arc::clone(&work).run()
        }));
        let task = task.abort_handle();
        Self(Arc::new(DrainHandle { shared, task }))
    }

    /// Switches to a target with changed settings if it is the same database, and returns true then.
    #[must_use]
    pub fn renew(&self, target: &Arc<Target>, settings: &CaptureSettings) -> bool {
        let old = self.0.shared.place();
        let same = old.target.same_server(target) && old.target.database == target.database;
        if same {
            *self.0.shared.place.lock() = Arc::new(DrainPlace {
                target: Arc::clone(target),
                settings: settings.clone(),
            });
        }
        same
    }

    /// Notes a session that began.
    pub fn enter(&self, backend: SessionBackend<'_>, since: Timestamp) {
        self.0.shared.sessions.know(backend, since);
    }

    /// Waits until the changes of a session that has ended are on record, for a bounded time. What is not on record by then comes
    /// later, and is the session's all the same.
    pub async fn leave(&self, backend: SessionBackend<'_>) {
        let shared = &self.0.shared;
        let asked = shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        shared.sessions.end(backend, asked);
        if !shared.captures() {
            shared.sessions.forget(asked);
            return;
        }
        let mut done = shared.done.subscribe();
        shared.wake.notify_one();
        let moved = done.wait_for(|done| *done >= asked);
        if tokio::time::timeout(END_TIMEOUT, moved).await.is_err() {
            tracing::warn!(session = %backend.session, "the changes of a session are not all on record at its end; they follow");
        }
    }

    /// Returns the counters.
    #[must_use]
    pub fn counted(&self) -> CaptureCounts {
        *self.0.shared.counts.lock()
    }
}

impl Drain {
    fn place(&self) -> Arc<DrainPlace> {
        Arc::clone(&self.place.lock())
    }

    fn captures(&self) -> bool {
        self.place().settings.captures || self.has_store.load(Ordering::Relaxed)
    }

    /// Moves changes for as long as the gate runs.
    async fn run(self: Arc<Self>) {
        let mut state = DrainState::default();
        loop {
            let asked = self.asked.load(Ordering::SeqCst);
            match self.look(&mut state).await {
                Ok(()) => {
                    self.succeeded(&mut state);
                    self.sessions.forget(asked);
                    self.done.send_replace(asked);
                }
                Err(error) => {
                    self.failed(&mut state, &error);
                    self.sessions.limit();
                }
            }
            let is_busy = state.connection.is_some() && !self.sessions.is_empty();
            if !is_busy {
                // It would block DROP DATABASE.
                state.connection = None;
            }
            let pause = match &state.failure {
                Some(_) => RETRY_INTERVAL,
                None if is_busy => BUSY_INTERVAL,
                None if self.captures() => IDLE_INTERVAL,
                None => UNUSED_INTERVAL,
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn succeeded(&self, state: &mut DrainState) {
        self.counts.lock().failing = false;
        if state.failure.take().is_some() {
            tracing::info!(target_name = %self.place().target.name, "captured changes are moved to the audit log again");
        }
    }

    fn failed(&self, state: &mut DrainState, error: &DrainError) {
        // Its transaction, if there is one, ends with the connection.
        state.connection = None;
        self.counts.lock().failing = true;
        let error = display_chain(error);
        if state.failure.as_ref() != Some(&error) {
            tracing::error!(target_name = %self.place().target.name, error, "cannot move captured changes to the audit log; they stay in the database, will retry");
            state.failure = Some(error);
        }
    }

    /// Moves all changes that are in the store now.
    async fn look(&self, state: &mut DrainState) -> Result<(), DrainError> {
        let place = self.place();
        if state.connection.as_ref().is_none_or(StoreConnection::closed) {
            state.connection = StoreConnection::open(&place.target).await?;
        }
        let Some(store) = state.connection.take() else {
            self.has_store.store(false, Ordering::Relaxed);
            return Ok(());
        };
        self.has_store.store(true, Ordering::Relaxed);
        if !state.is_settled {
            state.recorded = self.recorded(&store, &place).await?;
            state.is_settled = true;
        }
        let (roles, last) = store.pending().await?;
        let mut authors = HashMap::new();
        state.unknown.clear();
        for role in roles {
            match self.author(&role).await? {
                Some(author) => drop(authors.insert(role, author)),
                None => state.unknown.push(role),
            }
        }
        while self.batch(&store, &place, (&authors, last), state).await? {}
        // What is locked was not taken, and may be on record.
        if !state.recorded.is_empty() && store.oldest().await?.is_none() {
            state.recorded.clear();
        }
        self.look_at_unknown(&store, &place, state).await?;
        state.connection = Some(store);
        Ok(())
    }

    /// Counts the changes of grants that this gate does not know, and reports them once if they stay.
    async fn look_at_unknown(
        &self,
        store: &StoreConnection,
        place: &DrainPlace,
        state: &mut DrainState,
    ) -> Result<(), DrainError> {
        let count = match state.unknown.as_slice() {
            [] => 0,
            roles => store.count_of(roles).await?,
        };
        self.counts.lock().unknown = count;
        if count == 0 {
            state.unknown_since = None;
            return Ok(());
        }
        let now = self.context.clock.now();
        let (since, is_told) = state.unknown_since.unwrap_or((now, false));
        let is_long = now.duration_since(since) > UNKNOWN_TIMEOUT;
        if is_long && !is_told {
            tracing::warn!(
                target_name = %place.target.name, changes = count, first_role = state.unknown.first(),
                "changes by grants that this gate does not know stay in the store; start the gate that made these grants, or delete the changes"
            );
        }
        state.unknown_since = Some((since, is_told || is_long));
        Ok(())
    }

    /// Returns the records of changes in the store that a former run of the gate wrote and could not remove.
    async fn recorded(&self, store: &StoreConnection, place: &DrainPlace) -> Result<HashSet<RecordKey>, DrainError> {
        let Some((oldest, at)) = store.oldest().await? else {
            return Ok(HashSet::new());
        };
        let oldest = u64::try_from(oldest).unwrap_or_default();
        let filter = Filter {
            target: Some(place.target.name.clone()),
            event: Some(EventName::RowsChanged),
            since: at.min(self.context.clock.now()).checked_sub(MAX_CLOCK_DIFFERENCE).ok(),
            ..Filter::default()
        };
        let mut found = follow(&self.context.journal.settings().dir, &filter, SearchExtent::default())?;
        let mut recorded = HashSet::new();
        while let Some(record) = found.next().await {
            // A line that cannot be read is no reason to keep all changes back; whoever reads the log is told of it.
            if let Ok(record) = record
                && let Event::RowsChanged(event) = &record.event
                && event.change >= oldest
            {
                recorded.insert((event.transaction, event.change, event.offset));
            }
        }
        Ok(recorded)
    }

    /// Moves the next changes; returns false if there are no more.
    async fn batch(
        &self,
        store: &StoreConnection,
        place: &DrainPlace,
        (authors, last): (&HashMap<String, ChangeAuthor>, i64),
        state: &mut DrainState,
    ) -> Result<bool, DrainError> {
        let roles: Vec<&str> = authors.keys().map(String::as_str).collect();
        if roles.is_empty() {
            return Ok(false);
        }
        let taken = store.take(&roles, last).await?;
        if taken.is_empty() {
            store.give_back().await?;
            return Ok(false);
        }
        let masked: HashSet<(String, String)> = place
            .settings
            .tables()
            .map(|table| (table.schema.clone(), table.name.clone()))
            .collect();
        let masked: Vec<_> = masked.into_iter().collect();
        let missing = if masked.is_empty() {
            Vec::new()
        } else {
            store.missing(&masked).await?
        };
        let (mut records, mut counts, mut ids) = (PendingRecords::default(), CaptureCounts::default(), Vec::new());
        for change in &taken {
            let author = authors.get(&change.role).unwrap_or(&ChangeAuthor::PastTheGate);
            ids.push(change.id);
            counts.rows += change.rows;
            counts.past_the_gate += if matches!(author, ChangeAuthor::PastTheGate) {
                change.rows
            } else {
                0
            };
            let source = ChangeSource {
                place,
                store,
                missing: &missing,
                change,
                author,
            };
            self.record(&source, state, &mut records).await?;
        }
        self.write(&mut records, state).await?;
        store.remove(&ids).await?;
        let removed: HashSet<u64> = ids.iter().filter_map(|id| u64::try_from(*id).ok()).collect();
        state.recorded.retain(|(_, change, _)| !removed.contains(change));
        let mut total = self.counts.lock();
        total.rows += counts.rows;
        total.past_the_gate += counts.past_the_gate;
        Ok(true)
    }

    /// Returns the author of the changes of a role; `None` if it is named like that of a grant which this gate does not know.
    async fn author(&self, role: &str) -> Result<Option<ChangeAuthor>, DrainError> {
        let Some(grant) = role.split_once('_').and_then(|(_, rest)| {
            let end = role.len() - rest.len() + rest.find('_')?;
            role.get(..end)?.parse::<GrantId>().ok()
        }) else {
            return Ok(Some(ChangeAuthor::PastTheGate));
        };
        match self.context.ledger.grant(&grant).await {
            Ok(view) => {
                let known = &view.grant;
                let is_its = grant_role(known.identity(), &grant).as_str() == role;
                let author = || ChangeAuthor::Grant {
                    identity: known.identity().clone(),
                    profile: known.profile().cloned(),
                    grant,
                };
                Ok(Some(if is_its { author() } else { ChangeAuthor::PastTheGate }))
            }
            Err(LedgerError::NoSuchGrant(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds the records of a change, those that the log has already left out.
    async fn record(
        &self,
        source: &ChangeSource<'_>,
        state: &mut DrainState,
        records: &mut PendingRecords,
    ) -> Result<(), DrainError> {
        let change = source.change;
        let images = change.images.0.max(change.images.1);
        let without_rows = source.event(|grant| self.sessions.of(grant, change.backend, change.statement_at));
        if images == 0 {
            return self.push(without_rows, state, records).await;
        }
        let columns = source.columns();
        let mut event = without_rows.clone();
        let mut bytes = 0;
        let mut offset = 0;
        while offset < images {
            let piece = match (&change.inline, offset) {
                (Some(piece), 0) => piece.clone(),
                _ => source.store.images(change.id, offset).await?,
            };
            let read = piece.0.len().max(piece.1.len());
            if read == 0 {
                return Err(DrainError::Content("the images of a change"));
            }
            for (images, size) in rows(&piece, change) {
                if bytes + size > MAX_RECORD_BYTES && !event.changes.is_empty() {
                    let rest = RowsChanged {
                        offset: event.offset + event.changes.len() as u64,
                        ..without_rows.clone()
                    };
                    self.push(std::mem::replace(&mut event, rest), state, records).await?;
                    bytes = 0;
                }
                bytes += size;
                event.changes.push(columns.change(images.0, images.1));
            }
            offset += read;
        }
        self.push(event, state, records).await
    }

    /// Adds a record, and writes what there is if it is enough.
    async fn push(&self, event: RowsChanged, state: &mut DrainState, records: &mut PendingRecords) -> Result<(), DrainError> {
        let key = (event.transaction, event.change, event.offset);
        if state.recorded.contains(&key) {
            return Ok(());
        }
        records.keys.push(key);
        records
            .batch
            .push(self.context.clock.now(), &Event::RowsChanged(Cow::Owned(event)));
        if records.batch.size() > MAX_BATCH_BYTES {
            self.write(records, state).await?;
        }
        Ok(())
    }

    /// Writes records to the log.
    async fn write(&self, records: &mut PendingRecords, state: &mut DrainState) -> Result<(), DrainError> {
        if records.batch.is_empty() {
            return Ok(());
        }
        self.context.journal.submit(&mut records.batch).wait().await?;
        state.recorded.extend(records.keys.drain(..));
        Ok(())
    }
}

/// Records that are not written yet.
#[derive(Default)]
struct PendingRecords {
    batch: RecordBatch,
    keys: Vec<RecordKey>,
}

impl CaptureSettings {
    fn tables(&self) -> impl Iterator<Item = &MaskedTable> {
        self.masks.values().flatten()
    }
}
