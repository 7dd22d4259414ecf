-- The suppression list: whole in every shard. Pure twin: tidings.domain.suppression.latest. dispatch.sql: settle and
-- receipts.sql: file write to it too, in the commit of what they learnt it from.

-- name: merge
-- The last word for an address and a reason counts, in whatever order words come.
INSERT INTO suppression AS old (tenant, channel, hash, reason, at, lifted, delivery_id, spread)
SELECT r.*, $8
FROM unnest($1::int[], $2::smallint[], $3::bytea[], $4::text[], $5::timestamptz[], $6::boolean[], $7::uuid[])
    AS r(tenant, channel, hash, reason, at, lifted, delivery_id)
ORDER BY tenant, channel, hash, reason
ON CONFLICT (slot, tenant, channel, hash, reason) DO UPDATE
SET at = excluded.at, lifted = excluded.lifted, delivery_id = excluded.delivery_id, spread = excluded.spread
WHERE (excluded.at, NOT excluded.lifted) > (old.at, NOT old.lifted);

-- name: unspread
-- What the other shards may not know yet.
SELECT tenant, channel, hash, reason, at, lifted, delivery_id FROM suppression WHERE NOT spread ORDER BY at LIMIT $1;

-- name: spread
-- The others know it, unless something else was said here meanwhile. Locked in the order of merge.
UPDATE suppression s SET spread = true
FROM (
    SELECT tenant, channel, hash, reason
    FROM suppression s
    JOIN unnest($1::int[], $2::smallint[], $3::bytea[], $4::text[], $5::timestamptz[], $6::boolean[])
        AS r(tenant, channel, hash, reason, at, lifted) USING (tenant, channel, hash, reason, at, lifted)
    WHERE s.slot = -1
    ORDER BY tenant, channel, hash, reason
    FOR UPDATE OF s
) told
WHERE s.slot = -1 AND s.tenant = told.tenant AND s.channel = told.channel AND s.hash = told.hash
  AND s.reason = told.reason;

-- name: of_address
-- Lifted ones too.
SELECT tenant, channel, hash, reason, at, lifted, delivery_id FROM suppression
WHERE slot = -1 AND tenant = $1 AND channel = $2 AND hash = $3;

-- name: page
SELECT tenant, channel, hash, reason, at, lifted, delivery_id FROM suppression
WHERE slot = -1 AND tenant = $1 AND channel BETWEEN $2 AND $3 AND (channel, hash, reason) > ($4, $5, $6) AND NOT lifted
ORDER BY channel, hash, reason LIMIT $7;
