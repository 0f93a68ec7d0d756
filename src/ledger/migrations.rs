//! Tables of the store, and the migrations of a store from older versions.
//!
//! This module runs nothing. An entry is never changed once it is released: the next version is a further entry.
//!
//! INVARIANT: a settled row stays settled, whatever the program does: the triggers refuse any other change.

/// Migrations: each entry takes the store from the version of its index to the next one.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE grants (
        id TEXT PRIMARY KEY,
        identity TEXT NOT NULL,
        target TEXT NOT NULL,
        reason TEXT,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        activate_by INTEGER NOT NULL,
        window_us INTEGER NOT NULL,
        deadline INTEGER,
        max_sessions INTEGER NOT NULL,
        client_network TEXT,
        activated_at INTEGER,
        until INTEGER,
        revoked_at INTEGER,
        revoked_by TEXT,
        revoke_reason TEXT,
        verifier TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX grants_by_end ON grants (coalesce(until, activate_by));
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        grant_id TEXT NOT NULL,
        identity TEXT NOT NULL,
        target TEXT NOT NULL,
        backend_pid INTEGER NOT NULL,
        opened_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE gate (
        mock_key BLOB NOT NULL,
        highest_time INTEGER NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE grants ADD COLUMN profile TEXT;
    ALTER TABLE grants ADD COLUMN request TEXT;
    -- A request becomes one grant.
    CREATE UNIQUE INDEX grants_by_request ON grants (request) WHERE request IS NOT NULL;
    CREATE TRIGGER grants_keep_their_end BEFORE UPDATE ON grants
    WHEN OLD.revoked_at IS NOT NULL
        OR (OLD.activated_at IS NOT NULL AND NEW.activated_at IS NOT OLD.activated_at)
        OR NEW.request IS NOT OLD.request
    BEGIN SELECT RAISE(ABORT, 'a grant is not begun again and keeps its end'); END;
    CREATE TABLE requests (
        -- In the order they came.
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        identity TEXT NOT NULL,
        target TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        activate_within_us INTEGER NOT NULL,
        -- NULL: nothing yet; it may have lapsed.
        outcome TEXT CHECK (outcome IN ('denied', 'approved', 'rejected', 'withdrawn')),
        grant_id TEXT REFERENCES grants (id),
        unreviewed INTEGER NOT NULL CHECK (unreviewed IN (0, 1)),
        key TEXT,
        body TEXT NOT NULL,
        CHECK ((outcome IS 'approved') = (grant_id IS NOT NULL))
    ) STRICT;
    CREATE UNIQUE INDEX requests_by_key ON requests (identity, key) WHERE key IS NOT NULL;
    CREATE INDEX requests_by_identity ON requests (identity, number);
    CREATE INDEX requests_by_target ON requests (target, number);
    CREATE INDEX requests_by_outcome ON requests (outcome, number);
    CREATE INDEX requests_open ON requests (expires_at) WHERE outcome IS NULL;
    CREATE INDEX requests_unreviewed ON requests (number) WHERE unreviewed = 1;
    CREATE TRIGGER requests_keep_who_and_what BEFORE UPDATE ON requests
    WHEN NEW.id IS NOT OLD.id OR NEW.identity IS NOT OLD.identity OR NEW.target IS NOT OLD.target
        OR NEW.expires_at IS NOT OLD.expires_at OR NEW.key IS NOT OLD.key
    BEGIN SELECT RAISE(ABORT, 'whose request it is, where to and until when does not change'); END;
    CREATE TRIGGER requests_keep_their_outcome BEFORE UPDATE ON requests
    WHEN OLD.outcome IS NOT NULL AND NOT (
        OLD.unreviewed = 1 AND NEW.unreviewed = 0 AND NEW.outcome = OLD.outcome AND NEW.grant_id IS OLD.grant_id
        AND json_extract(NEW.body, '$.review') IS NOT NULL
        AND json_remove(NEW.body, '$.review') = json_remove(OLD.body, '$.review'))
    BEGIN SELECT RAISE(ABORT, 'a settled request does not change, but for its one review'); END;
    CREATE TABLE logins (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        grant_id TEXT NOT NULL REFERENCES grants (id),
        verifier TEXT NOT NULL
    ) STRICT;
    CREATE INDEX logins_by_grant ON logins (grant_id, number);
    CREATE TABLE users (
        name TEXT PRIMARY KEY,
        in_groups TEXT NOT NULL,
        -- NULL: an issuer's identity, known here because it was disabled.
        token_hash TEXT UNIQUE,
        disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),
        created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Each ends with the id, for that is what the table is ordered by.
    CREATE INDEX grants_by_creation ON grants (created_at);
    CREATE INDEX grants_by_identity ON grants (identity, created_at);
",
    "
    -- The last signed place of each log that this gate has written. The newest by `noted_at` is the present log.
    CREATE TABLE log_tips (
        log TEXT PRIMARY KEY,
        segment INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        link TEXT NOT NULL,
        line TEXT NOT NULL,
        noted_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- All records up to this line of the log are reflected in the store, or need not be.
    CREATE TABLE log_reflected (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        log TEXT NOT NULL,
        segment INTEGER NOT NULL,
        seq INTEGER NOT NULL
    ) STRICT;
    -- Events that took effect and are stored, and still have to be put on record, in this order.
    CREATE TABLE unrecorded (
        number INTEGER PRIMARY KEY,
        event TEXT NOT NULL
    ) STRICT;
",
    "
    -- Sign-ins of people at the console and the command line. One that is over is forgotten.
    CREATE TABLE sign_ins (
        id TEXT PRIMARY KEY,
        identity TEXT NOT NULL,
        in_groups TEXT NOT NULL,
        claims TEXT NOT NULL,
        -- NULL: a local user.
        issuer TEXT,
        via TEXT NOT NULL,
        client TEXT,
        secret_hash TEXT NOT NULL UNIQUE,
        -- The token of the local user with which it was made.
        token_hash TEXT,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        ended_at INTEGER,
        ended_by TEXT,
        end_reason TEXT,
        CHECK ((issuer IS NULL) = (token_hash IS NOT NULL))
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER sign_ins_keep_who_and_how_long BEFORE UPDATE ON sign_ins
    WHEN OLD.ended_at IS NOT NULL OR NEW.identity IS NOT OLD.identity OR NEW.in_groups IS NOT OLD.in_groups
        OR NEW.claims IS NOT OLD.claims OR NEW.secret_hash IS NOT OLD.secret_hash OR NEW.token_hash IS NOT OLD.token_hash
        OR NEW.expires_at IS NOT OLD.expires_at
    BEGIN SELECT RAISE(ABORT, 'whose sign-in it is and until when does not change, nor one that has ended'); END;
",
    "
    -- NULL: no end. Tokens from before have none until they are replaced.
    ALTER TABLE users ADD COLUMN token_until INTEGER;
",
];
