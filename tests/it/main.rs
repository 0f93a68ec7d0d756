//! The gate as a whole, against a real PostgreSQL, with real clients: `psql` and `tokio-postgres`.
//!
//! One program, one file per behaviour:
//! - `access`: two people and the commands: ask, approve, work, give back
//! - `accounts`: the accounts of a target: what `check` refuses of them, and the connection that ends sessions
//! - `answers`: `tidegate log` of a real gate: stories, who touched what, conditions, follow; and nothing that steers a terminal
//! - `audit`: the log is proven by command line, while the gate runs and on copies; its key changes
//! - `audit_fails`: a log that cannot be written stops statements, and nothing else for longer than that
//! - `browser`: people use the console in chromium, on a desk and on a phone, and sign in at a provider
//! - `cancel`: Ctrl-C, and whose statement it stops
//! - `changed_rows`: rows that profiles capture: each kind of statement, ways to switch it off, kill -9, a replay of the images
//! - `changes`: extend, shorten, revoke, warnings: what reaches a session that runs
//! - `chat`: a waiting login gets in by a click in a chat
//! - `commands`: the program at a shell: quiet, warnings that stop nothing, words completed by bash
//! - `console`: two people in browsers: ask, approve, connect by the card, be revoked
//! - `deadline`: two hundred sessions of one grant end at one time
//! - `demo`: what a newcomer runs first
//! - `descriptors`: the limit of open files, and strangers who take all they can
//! - `disk`: a disk that is full again and again, that can only be read, a log that was deleted: nothing runs off the record
//! - `drain`: SIGTERM ends idle sessions first and the others at its limit
//! - `drivers`: drivers as they are published: a few with `make test`, all with `make drivers`
//! - `endings`: every way a session ends, by its packet, with its transaction's fate looked up in the database
//! - `escapes`: ways out of a grant's rights, each tried against a real server
//! - `evidence`: what auditors, DuckDB (`make drivers`) and a syslog receiver are given of the log
//! - `figures`: how long people wait: for their first row, for an approval, for a change to reach two hundred sessions
//! - `frozen`: backends that hear no signal hold up neither the others nor their own clients
//! - `hang`: session threads that hang lengthen nothing at the database
//! - `hostile`: texts that would be scripts, on every page: chromium runs none
//! - `in_person`: what the webhook of a person hears: decisions, ends that come and that are there, revocations
//! - `kill9`: what a gate that dies leaves behind: no backend, and no statement off the record
//! - `left_behind`: what a grant could leave to others: functions, views, default privileges, gifts
//! - `lifeless`: a gate that is frozen gives no sign of life, to its service manager or at `/livez`
//! - `log`: what the log says is what the server ran
//! - `log_trust`: a log that is cut, gone or another is noticed by the ledger; one made to take all memory takes little
//! - `masks`: masks beside the search path, qualified names, migrations, restores and dumps
//! - `messages`: standard error that is stuck or fails holds nothing up
//! - `oauth`: people sign in at an OpenID provider by libpq 18's own code, and byte by byte
//! - `oidc`: a pipeline's token of an OpenID provider that the test starts, and every token that is not good
//! - `pipelines`: what was sent ahead of its answers when the deadline comes, or a revocation
//! - `profiles`: profiles that say what they may do: planned, applied, and looked after by a running gate
//! - `rails`: a statement that a profile does not want: the error, what works after it, what is on record
//! - `recreated`: a target's database is dropped, copied, restored while the gate runs
//! - `refusals`: every way a login is refused, by its packet
//! - `reload`: other policies are on record before they decide; those with a mistake never do
//! - `restarts`: `kill -9` in the middle of every state of a request; what was, is; what was over, stays over
//! - `roles`: a role for each grant: made for its first session, gone when it is over, whatever dies meanwhile
//! - `run_report`: what a run of a suite did, who else was in its tables, and red against green; published suites with `make suites`
//! - `rush`: two approvers at once, floods, retries, mistyped names
//! - `shut_out`: a disabled identity's sessions, requests and grants end at once
//! - `sign_ins`: a secret of the gate's own in place of a token: at the API, the command line and the wire, until it ends
//! - `soak`: mixed traffic for a long time leaves memory, descriptors, threads and disk as they were
//! - `startup`: settings, spellings of a profile, the application's name: what a startup packet says, and what is said of it
//! - `states`: a thousand sessions in every state at one deadline
//! - `statements`: every way to execute something, by its records; secrets, values, what the log must not show
//! - `strangers`: those who prove nothing, and greedy testers: nobody else is ended or kept out
//! - `taking_away`: revoked, shut out, while store or log cannot be written or the gate is killed: in effect at once, and for good
//! - `terminal`: what happens on a terminal: a token that is not shown, and psql, which has it to itself
//! - `tour`: a tester's way from the grant to the first rows, and what the log says about it
//! - `waiting`: plain psql under a name and a token, which waits for approval
//! - `what_ran`: rows as they were sent, errors where they came, a target's last words, texts in their encoding
//! - `wire`: the protocol from the first byte to bulk data, broken and slow
//! - `support`: the servers, the clients, the waiting
#![allow(missing_docs, reason = "tests, not a library")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test says what it expects and fails otherwise, times things, and tells its story in one piece"
)]

mod access;
mod accounts;
mod answers;
mod audit;
mod audit_fails;
mod browser;
mod cancel;
mod changed_rows;
mod changes;
mod chat;
mod commands;
mod console;
mod copies;
mod deadline;
mod decisions;
mod demo;
mod descriptors;
mod disk;
mod drain;
mod drivers;
mod endings;
mod escapes;
mod evidence;
mod exclusive;
mod figures;
mod frozen;
mod hang;
mod hostile;
mod in_person;
mod kill9;
mod left_behind;
mod lifeless;
mod log;
mod log_trust;
mod masks;
mod messages;
mod oauth;
mod oidc;
mod pipelines;
mod profiles;
mod rails;
mod readers;
mod recreated;
mod refusals;
mod reload;
mod restarts;
mod roles;
mod run_report;
mod rush;
mod shut_out;
mod sign_ins;
mod soak;
mod startup;
mod statements;
mod states;
mod strangers;
mod support;
mod taking_away;
mod terminal;
mod tour;
mod undo;
mod waiting;
mod what_ran;
mod wire;
