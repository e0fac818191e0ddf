-- 'TIDG': tells our databases from those of other programs.
PRAGMA application_id = 1414087751;

-- Times are text, 2026-11-22T08:00:00.123456789Z with nine digits always, so that they sort and can be read.
-- Lists and nested values are JSON. Nothing refers to users or targets by key: what was given to them
-- outlives them as history.

CREATE TABLE users (
    name        TEXT PRIMARY KEY,
    groups      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE targets (
    name        TEXT PRIMARY KEY,
    body        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    id           TEXT PRIMARY KEY,
    name         TEXT UNIQUE,
    user_name    TEXT,
    group_name   TEXT,
    target       TEXT NOT NULL,
    level        TEXT NOT NULL,
    databases    TEXT NOT NULL,
    starts_at    TEXT NOT NULL,
    ends_at      TEXT NOT NULL,
    cidrs        TEXT NOT NULL,
    sessions_max INTEGER,
    reason       TEXT,
    created_at   TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    ended_at     TEXT,
    end_cause    TEXT,
    end_reason   TEXT,
    CHECK ((user_name IS NULL) <> (group_name IS NULL)),
    CHECK ((ended_at IS NULL) = (end_cause IS NULL)),
    CHECK (starts_at < ends_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_open ON grants (target, user_name) WHERE ended_at IS NULL;

-- What has ended stays ended and stays as it was.
CREATE TRIGGER grants_ended_is_final BEFORE UPDATE ON grants WHEN OLD.ended_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'an ended grant does not change');
END;

CREATE TABLE credentials (
    id               TEXT PRIMARY KEY,
    user_name        TEXT NOT NULL,
    starts_at        TEXT NOT NULL,
    ends_at          TEXT NOT NULL,
    scram_stored_key BLOB NOT NULL,
    scram_server_key BLOB NOT NULL,
    caching_sha2     BLOB NOT NULL,
    ed25519          BLOB NOT NULL,
    parsec           BLOB NOT NULL,
    check_value      BLOB NOT NULL,
    created_by       TEXT NOT NULL,
    ended_at         TEXT,
    end_cause        TEXT,
    end_reason       TEXT,
    CHECK ((ended_at IS NULL) = (end_cause IS NULL)),
    CHECK (starts_at < ends_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX credentials_open ON credentials (user_name) WHERE ended_at IS NULL;

CREATE TRIGGER credentials_ended_is_final BEFORE UPDATE ON credentials WHEN OLD.ended_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'an ended credential does not change');
END;

CREATE TABLE sessions (
    id          TEXT PRIMARY KEY,
    user_name   TEXT NOT NULL,
    target      TEXT NOT NULL,
    level       TEXT NOT NULL,
    grant_id    TEXT NOT NULL,
    database    TEXT,
    peer        TEXT NOT NULL,
    protocol    TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    ended_at    TEXT,
    how         TEXT,
    code        TEXT,
    statements  INTEGER NOT NULL,
    bytes_up    INTEGER NOT NULL,
    bytes_down  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_open ON sessions (id) WHERE ended_at IS NULL;
