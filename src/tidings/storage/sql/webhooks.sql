-- Webhooks, in the control database.

-- name: lock
-- Two that put a webhook of one tenant come one after the other.
SELECT id FROM tenant WHERE id = $1 FOR NO KEY UPDATE;

-- name: find
SELECT name, secrets FROM webhook WHERE tenant = $1;

-- name: put
-- Enabled, it begins anew: what failed before counts no more.
WITH put AS (
    INSERT INTO webhook AS w (tenant, name, url, events, secrets, disabled_at, disabled_because)
    VALUES ($1, $2, $3, $4, $5, CASE WHEN $6::boolean THEN NULL ELSE now() END, CASE WHEN $6 THEN NULL ELSE 'by_request' END)
    ON CONFLICT (tenant, name) DO UPDATE SET
        url = excluded.url, events = excluded.events, secrets = excluded.secrets,
        disabled_at = CASE WHEN $6 THEN NULL ELSE coalesce(w.disabled_at, now()) END,
        disabled_because = CASE WHEN $6 THEN NULL ELSE coalesce(w.disabled_because, 'by_request') END,
        untold = false
    RETURNING id
)
DELETE FROM failing_webhook f USING put WHERE f.webhook = put.id;

-- name: delete
DELETE FROM webhook WHERE tenant = $1 AND name = $2 RETURNING id;

-- name: failing
SELECT webhook, since, code FROM failing_webhook;

-- name: failed
INSERT INTO failing_webhook AS f (webhook, code)
SELECT id, $2 FROM webhook WHERE id = $1 AND disabled_at IS NULL
ON CONFLICT (webhook) DO UPDATE SET code = excluded.code WHERE f.code <> excluded.code;

-- name: recovered
DELETE FROM failing_webhook WHERE webhook = $1;

-- name: disable_failing
UPDATE webhook w SET disabled_at = now(), disabled_because = 'failing', untold = true
FROM failing_webhook f
WHERE w.id = $1 AND w.disabled_at IS NULL AND f.webhook = w.id AND f.since <= now() - $2::float8 * interval '1 second'
RETURNING w.id;

-- name: disable_gone
-- Only while it is still the address that said so.
UPDATE webhook SET disabled_at = now(), disabled_because = 'gone', untold = true
WHERE id = $1 AND url = $2 AND disabled_at IS NULL
RETURNING id;

-- name: untold
SELECT id, tenant, name, disabled_at, disabled_because FROM webhook WHERE untold;

-- name: told
-- Unless it was enabled and disabled once more meanwhile.
UPDATE webhook SET untold = false WHERE id = $1 AND disabled_at = $2;
