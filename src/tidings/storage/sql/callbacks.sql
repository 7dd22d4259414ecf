-- What callers' systems are still to be told. Written by every statement that changes what callers see of a delivery:
-- dispatch.sql: settle, cancel, discard; receipts.sql: file.

-- name: claim
-- A limit for each webhook, so that one with many callbacks takes nothing from the others.
WITH c AS MATERIALIZED (
    SELECT b.id
    FROM unnest($1::int[], $2::int[]) AS wanted(webhook, n)
    CROSS JOIN LATERAL (
        SELECT id FROM callback
        WHERE webhook = wanted.webhook AND due_at <= now()
        ORDER BY due_at
        LIMIT wanted.n
        FOR UPDATE SKIP LOCKED
    ) b
)
UPDATE callback b SET due_at = now() + $3::float8 * interval '1 second', token = $4::bigint
FROM c WHERE b.id = c.id
RETURNING b.id, b.webhook, b.token, b.tries, b.delivery_id, b.status, b.reason, b.at, b.body;

-- name: put
-- What is about no delivery.
INSERT INTO callback (id, webhook, body)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::bytea[])
ON CONFLICT (id) DO NOTHING;

-- name: load
SELECT v.id, v.notification_id, v.channel, n.user_id, n.category, n.reference, n.payload
FROM delivery v
JOIN notification n ON n.id = v.notification_id AND n.id BETWEEN $2 AND $3
WHERE v.id = ANY($1::uuid[]) AND v.id BETWEEN $2 AND $3;

-- name: finish
-- after_s NULL: told, or given up. Somebody else's hold stays as it is.
WITH r AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS r(id, token, after_s)
),
told AS (
    DELETE FROM callback b USING r WHERE r.after_s IS NULL AND b.id = r.id AND b.token = r.token
)
UPDATE callback b SET due_at = now() + r.after_s * interval '1 second', token = 0, tries = b.tries + 1
FROM r WHERE r.after_s IS NOT NULL AND b.id = r.id AND b.token = r.token;

-- name: owed
-- Counted no further than $1, so that a receiver that is away for days makes it no dearer; the oldest due one is the head
-- of the index for each webhook.
SELECT (SELECT count(*) FROM (SELECT FROM callback LIMIT $1) counted) AS waiting,
       coalesce(greatest(extract(epoch FROM now() - (
           SELECT min(first.due_at) FROM listener l CROSS JOIN LATERAL (
               SELECT due_at FROM callback WHERE webhook = l.webhook ORDER BY due_at LIMIT 1
           ) first
       )), 0), 0)::float8 AS oldest_due_s;

-- name: drop
-- What nobody will be told, because nobody listens any more.
DELETE FROM callback b USING (
    SELECT ctid FROM callback WHERE NOT EXISTS (SELECT FROM listener l WHERE l.webhook = callback.webhook)
    LIMIT $1
    FOR UPDATE SKIP LOCKED
) old WHERE b.ctid = old.ctid;

-- name: listen
-- All that are enabled take the place of all that were known, unless that came from a newer catalog. An older one counts
-- after a minute, because nobody holds it for so long: the control database was put back.
WITH newer AS (
    INSERT INTO listening AS l (version) VALUES ($1)
    ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, at = now()
    WHERE excluded.version >= l.version OR l.at < now() - interval '1 minute'
    RETURNING version
),
wanted AS MATERIALIZED (
    SELECT w.* FROM unnest($2::int[], $3::int[], $4::bigint[]) AS w(tenant, webhook, events), newer
),
gone AS (
    DELETE FROM listener l USING newer
    WHERE NOT EXISTS (SELECT FROM wanted w WHERE (w.tenant, w.webhook) = (l.tenant, l.webhook))
)
INSERT INTO listener AS l (tenant, webhook, events)
SELECT tenant, webhook, events FROM wanted ORDER BY tenant, webhook
ON CONFLICT (tenant, webhook) DO UPDATE SET events = excluded.events WHERE l.events <> excluded.events;
