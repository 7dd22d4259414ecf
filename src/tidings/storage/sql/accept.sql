-- name: accept
-- One statement, one commit, for any number of requests to this shard. A replay writes too, so that its commit waits
-- for the replica that the first one waited for. Rows come sorted by key, so that two flushes never lock in opposite
-- order, and hold no key twice.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::uuid[], $2::smallint[], $3::int[], $4::text[], $5::int[], $6::int[], $7::int[], $8::text[], $9::bytea[],
        $10::bytea[], $11::bytea[], $12::bytea[], $13::timestamptz[], $14::float8[]
    ) AS a(id, slot, tenant, user_id, category, template_version, sender, reference, payload,
           key_hash, fingerprint, deduplication_hash, send_at, expires_after_s)
),
k AS (
    INSERT INTO accept_key AS old (slot, tenant, user_id, kind, hash, notification_id, fingerprint, expires_at)
    SELECT slot, tenant, user_id, 1, key_hash, id, fingerprint, now() + $15::float8 * interval '1 second'
    FROM asked WHERE key_hash IS NOT NULL
    ON CONFLICT (slot, tenant, user_id, kind, hash) DO UPDATE SET
        replayed_at = clock_timestamp(),
        notification_id = CASE WHEN old.expires_at < now() THEN excluded.notification_id ELSE old.notification_id END,
        fingerprint = CASE WHEN old.expires_at < now() THEN excluded.fingerprint ELSE old.fingerprint END,
        expires_at = CASE WHEN old.expires_at < now() THEN excluded.expires_at ELSE old.expires_at END
    RETURNING slot, tenant, user_id, hash, notification_id, fingerprint
),
fresh AS MATERIALIZED (
    SELECT a.*, k.notification_id AS first_id, k.fingerprint AS first_fingerprint
    FROM asked a
    LEFT JOIN k ON k.slot = a.slot AND k.tenant = a.tenant AND k.user_id = a.user_id AND k.hash = a.key_hash
),
dedup AS (
    INSERT INTO accept_key AS old (slot, tenant, user_id, kind, hash, notification_id, expires_at)
    SELECT slot, tenant, user_id, 2, deduplication_hash, id, now() + $16::float8 * interval '1 second'
    FROM fresh WHERE deduplication_hash IS NOT NULL AND coalesce(first_id = id, true)
    ON CONFLICT (slot, tenant, user_id, kind, hash) DO UPDATE SET
        replayed_at = clock_timestamp(),
        notification_id = CASE WHEN old.expires_at < now() THEN excluded.notification_id ELSE old.notification_id END,
        expires_at = CASE WHEN old.expires_at < now() THEN excluded.expires_at ELSE old.expires_at END
    RETURNING slot, tenant, user_id, hash, notification_id
),
verdict AS MATERIALIZED (
    SELECT f.id, f.first_id, f.first_fingerprint, dedup.notification_id AS deduplicated_id,
           coalesce(f.first_id, f.id) = f.id AND coalesce(dedup.notification_id, f.id) = f.id AS new
    FROM fresh f
    LEFT JOIN dedup ON dedup.slot = f.slot AND dedup.tenant = f.tenant AND dedup.user_id = f.user_id
                   AND dedup.hash = f.deduplication_hash
),
notifications AS (
    INSERT INTO notification (id, slot, tenant, user_id, category, template_version, sender, reference, payload,
                              send_at, expires_at)
    SELECT id, slot, tenant, user_id, category, template_version, sender, reference, payload, send_at,
           coalesce(send_at, now()) + expires_after_s * interval '1 second'
    FROM asked JOIN verdict USING (id) WHERE verdict.new
),
planned AS MATERIALIZED (
    SELECT p.* FROM unnest(
        $17::uuid[], $18::uuid[], $19::int[], $20::smallint[], $21::smallint[], $22::text[], $23::bytea[],
        $24::timestamptz[]
    ) AS p(id, notification_id, tenant, channel, lane, address, address_hash, due_at)
    JOIN verdict ON verdict.id = p.notification_id AND verdict.new
),
deliveries AS (
    INSERT INTO delivery (id, notification_id, tenant, channel, address, address_hash)
    SELECT id, notification_id, tenant, channel, address, address_hash FROM planned
),
dispatches AS (
    INSERT INTO dispatch (id, home, lane, due_at)
    SELECT id, lane, lane, coalesce(due_at, now()) FROM planned
)
SELECT id, first_id, first_fingerprint, deduplicated_id FROM verdict WHERE NOT new;

-- name: deduplicated
-- The first notification of a deduplication key: for a replay whose first call ended before its key could point there.
SELECT hash, notification_id FROM accept_key
WHERE slot = $1 AND tenant = $2 AND user_id = $3 AND kind = 2 AND hash = $4;

-- name: exists
SELECT id FROM notification WHERE id = $1 AND id BETWEEN $2 AND $3;

-- name: point
-- Keys whose call was a duplicate stand for what was answered.
UPDATE accept_key k SET notification_id = p.answered
FROM (
    SELECT * FROM unnest($1::smallint[], $2::int[], $3::text[], $4::bytea[], $5::uuid[], $6::uuid[])
        AS p(slot, tenant, user_id, hash, was, answered) LIMIT cardinality($1)
) p
WHERE k.slot = p.slot AND k.tenant = p.tenant AND k.user_id = p.user_id AND k.kind = 1 AND k.hash = p.hash
  AND k.notification_id = p.was;

-- name: empty_keys
-- Expired keys, a small batch at a time.
DELETE FROM accept_key k USING (
    SELECT ctid FROM accept_key WHERE expires_at < now() - interval '1 minute' ORDER BY expires_at LIMIT $1
    FOR UPDATE SKIP LOCKED
) old WHERE k.ctid = old.ctid;
