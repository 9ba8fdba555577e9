"""The registry's tables: every step of its schema in order, those of its parts included."""

from __future__ import annotations

from .database import Migration

MIGRATIONS = (
    Migration(
        "registry/1",
        (
            """CREATE TABLE thing(
                id TEXT PRIMARY KEY, name TEXT NOT NULL, metadata TEXT NOT NULL,
                key_hash BLOB NOT NULL UNIQUE, key_version INTEGER NOT NULL)""",
            "CREATE TABLE channel(id TEXT PRIMARY KEY, name TEXT NOT NULL, metadata TEXT NOT NULL)",
            """CREATE TABLE connection(
                channel TEXT NOT NULL REFERENCES channel ON DELETE CASCADE,
                thing TEXT NOT NULL REFERENCES thing ON DELETE CASCADE,
                PRIMARY KEY (channel, thing)) WITHOUT ROWID""",
            "CREATE INDEX connection_by_thing ON connection(thing)",
            """CREATE TABLE user(
                id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, role TEXT NOT NULL, password TEXT NOT
                NULL)""",
            """CREATE TABLE token(
                hash BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES user ON DELETE CASCADE,
                issued_s REAL NOT NULL, used_s REAL NOT NULL) WITHOUT ROWID""",
            "CREATE TABLE claim(id INTEGER PRIMARY KEY, code BLOB NOT NULL, tries INTEGER NOT NULL)",
        ),
    ),
    Migration(
        "registry/2",
        (
            """CREATE TABLE policy(
                name TEXT PRIMARY KEY, document TEXT NOT NULL, updated_s REAL NOT NULL) WITHOUT ROWID""",
        ),
    ),
    # 1: publish, 2: subscribe, 3: both, as all connections were before.
    Migration("registry/3", ("ALTER TABLE connection ADD COLUMN rights INTEGER NOT NULL DEFAULT 3",)),
    Migration(
        "registry/groups/1",
        (
            """CREATE TABLE organisation(
                id TEXT PRIMARY KEY, parent TEXT REFERENCES organisation, name TEXT NOT NULL,
                description TEXT NOT NULL, metadata TEXT NOT NULL,
                created_s REAL NOT NULL, updated_s REAL NOT NULL)""",
            """CREATE TABLE organisation_user(
                organisation TEXT NOT NULL REFERENCES organisation ON DELETE CASCADE,
                user TEXT NOT NULL REFERENCES user ON DELETE CASCADE,
                role TEXT NOT NULL, PRIMARY KEY (organisation, user))""",
            """CREATE TABLE organisation_thing(
                thing TEXT PRIMARY KEY REFERENCES thing ON DELETE CASCADE,
                organisation TEXT NOT NULL REFERENCES organisation ON DELETE CASCADE)""",
            """CREATE TABLE organisation_channel(
                channel TEXT PRIMARY KEY REFERENCES channel ON DELETE CASCADE,
                organisation TEXT NOT NULL REFERENCES organisation ON DELETE CASCADE)""",
            "CREATE INDEX organisation_by_parent ON organisation(parent)",
            "CREATE INDEX organisation_user_by_user ON organisation_user(user)",
            "CREATE INDEX organisation_thing_by_holder ON organisation_thing(organisation)",
            "CREATE INDEX organisation_channel_by_holder ON organisation_channel(organisation)",
        ),
    ),
    Migration(
        "registry/grants/1",
        (
            """CREATE TABLE grants(
                id TEXT PRIMARY KEY, kind TEXT NOT NULL,
                user TEXT REFERENCES user ON DELETE CASCADE, thing TEXT REFERENCES thing ON DELETE CASCADE,
                name TEXT NOT NULL, scopes TEXT NOT NULL, issued_s REAL NOT NULL, expires_s REAL, used_s REAL,
                application TEXT REFERENCES thing ON DELETE CASCADE,
                parent TEXT REFERENCES grants ON DELETE CASCADE,
                version INTEGER NOT NULL, overlap_s REAL NOT NULL, hash BLOB UNIQUE, old_hash BLOB,
                CHECK ((user IS NULL) <> (thing IS NULL)))""",
            "CREATE INDEX grants_by_user ON grants(user)",
            "CREATE INDEX grants_by_thing ON grants(thing)",
            "CREATE INDEX grants_by_application ON grants(application)",
            "CREATE INDEX grants_by_parent ON grants(parent)",
        ),
    ),
    Migration(
        "registry/signing/1",
        (
            """CREATE TABLE signing_key(
                kid TEXT PRIMARY KEY, private BLOB NOT NULL, created_s REAL NOT NULL, retired_s REAL)""",
        ),
    ),
    Migration(
        "registry/certificates/1",
        (
            # role: root, issuing, server, foreign; key: sealed, empty where it is not here; list: a root's own CRL
            """CREATE TABLE authority(
                id INTEGER PRIMARY KEY, role TEXT NOT NULL, certificate BLOB NOT NULL, key BLOB NOT NULL,
                made_s REAL NOT NULL, list BLOB NOT NULL)""",
            # Not bound to the thing: a certificate stays denied when the thing is gone, or another has its id.
            """CREATE TABLE certificate(
                serial TEXT PRIMARY KEY, thing TEXT NOT NULL, certificate BLOB NOT NULL, issued_s REAL NOT NULL,
                issued_by TEXT NOT NULL, ends_s REAL NOT NULL, renews TEXT NOT NULL, used_s REAL NOT NULL,
                revoked_s REAL, reason TEXT NOT NULL)""",
            "CREATE INDEX certificate_by_thing ON certificate(thing)",
            """CREATE TRIGGER certificate_with_its_thing AFTER DELETE ON thing BEGIN
                UPDATE certificate SET revoked_s = issued_s, reason = 'the thing was removed'
                WHERE thing = OLD.id AND revoked_s IS NULL; END""",
        ),
    ),
    Migration(
        "registry/applications/1",
        (
            """CREATE TABLE application(
                id TEXT PRIMARY KEY REFERENCES thing ON DELETE CASCADE, role TEXT NOT NULL, scopes TEXT NOT NULL,
                redirect_uris TEXT NOT NULL, grant_types TEXT NOT NULL, public INTEGER NOT NULL,
                made_s REAL NOT NULL)""",
        ),
    ),
    # Of the gateway's own pages, which are no application of the table, `application` is NULL.
    Migration(
        "registry/oauth/1",
        (
            """CREATE TABLE oauth_code(
                hash BLOB PRIMARY KEY, application TEXT REFERENCES application ON DELETE CASCADE,
                user TEXT NOT NULL REFERENCES user ON DELETE CASCADE, redirect_uri TEXT NOT NULL,
                scopes TEXT NOT NULL, challenge TEXT NOT NULL, nonce TEXT NOT NULL, resource TEXT NOT NULL,
                issued_s REAL NOT NULL, auth_s REAL NOT NULL, grant_id TEXT NOT NULL) WITHOUT ROWID""",
            """CREATE TABLE oauth_refresh(
                grant_id TEXT PRIMARY KEY REFERENCES grants ON DELETE CASCADE, hash BLOB NOT NULL,
                resource TEXT NOT NULL, auth_s REAL NOT NULL, expires_s REAL NOT NULL) WITHOUT ROWID""",
            "CREATE INDEX oauth_code_by_application ON oauth_code(application)",
            "CREATE INDEX oauth_code_by_user ON oauth_code(user)",
        ),
    ),
    # A token was a session that said nothing of itself.
    Migration(
        "registry/people/1",
        (
            """CREATE TABLE session(
                hash BLOB PRIMARY KEY, id TEXT NOT NULL UNIQUE, user TEXT NOT NULL REFERENCES user ON DELETE CASCADE,
                opened_s REAL NOT NULL, used_s REAL NOT NULL, address TEXT NOT NULL, agent TEXT NOT NULL)
                WITHOUT ROWID""",
            """INSERT INTO session SELECT hash, lower(hex(randomblob(8))), user, issued_s, used_s, '', ''
                FROM token""",
            "DROP TABLE token",
            "CREATE INDEX session_by_user ON session(user)",
            """CREATE TABLE device_known(
                hash BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES user ON DELETE CASCADE, used_s REAL NOT NULL)
                WITHOUT ROWID""",
            "CREATE INDEX device_known_by_user ON device_known(user)",
            """CREATE TABLE totp(
                user TEXT PRIMARY KEY REFERENCES user ON DELETE CASCADE, sealed BLOB NOT NULL,
                confirmed INTEGER NOT NULL, step INTEGER NOT NULL) WITHOUT ROWID""",
            """CREATE TABLE recovery_code(
                user TEXT NOT NULL REFERENCES user ON DELETE CASCADE, hash BLOB NOT NULL,
                PRIMARY KEY (user, hash)) WITHOUT ROWID""",
        ),
    ),
    # The session in which the person signed in to the gateway's own pages; with it ends what they were given.
    Migration(
        "registry/oauth/2",
        (
            "ALTER TABLE oauth_code ADD COLUMN session TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE oauth_refresh ADD COLUMN session TEXT NOT NULL DEFAULT ''",
            """CREATE TRIGGER oauth_with_its_session AFTER DELETE ON session BEGIN
                DELETE FROM grants WHERE id IN (SELECT grant_id FROM oauth_refresh WHERE session = OLD.id); END""",
            "CREATE INDEX oauth_refresh_by_session ON oauth_refresh(session)",
        ),
    ),
    # What changed and is not in the log yet. A number is never given twice.
    Migration(
        "registry/events/1",
        (
            """CREATE TABLE event(
                seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, who TEXT NOT NULL,
                operation TEXT NOT NULL, body TEXT NOT NULL)""",
        ),
    ),
)
