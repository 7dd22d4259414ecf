-- One row is everything: what was asked, the queue, and what became of it.
DROP TABLE IF EXISTS work, accept_key, person;
CREATE TABLE person (user_id text PRIMARY KEY, email text NOT NULL);
CREATE TABLE accept_key (user_id text, key text, id uuid NOT NULL, PRIMARY KEY (user_id, key));
CREATE TABLE work (
    id         uuid        PRIMARY KEY,
    user_id    text        NOT NULL,
    data       bytea       NOT NULL,
    status     smallint    NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT now(),
    message_id text,
    sent_at    timestamptz
) WITH (fillfactor = 70);
CREATE INDEX work_due ON work (due_at) WHERE status = 0;
INSERT INTO person SELECT 'bench-user-' || i, 'bench-user-' || i || '@example.com' FROM generate_series(0, 99999) i;
ANALYZE;
