-- name: file
-- Each receipt once, its delivery's status forward only, its doubt resolved. What a provider took must not be sent
-- again, so the dispatch goes too, unless a call is under way: then that call's own end settles it.
WITH r AS MATERIALIZED (
    SELECT * FROM unnest(
        $5::uuid[], $6::smallint[], $7::text[], $8::text[], $9::smallint[], $10::text[], $11::text[],
        $12::timestamptz[], $13::bytea[], $14::text[], $15::text[], $16::boolean[], $17::bytea[]
    ) AS r(id, n, event_key, kind, status, reason, message_id,
           occurred_at, raw, engagement, held_against, lifted, address_hash)
),
known AS MATERIALIZED (
    SELECT v.id, v.channel, v.address_hash FROM delivery v
    WHERE v.id = ANY($5::uuid[]) AND v.id BETWEEN $1 AND $2 AND v.tenant = $3
),
filed AS (
    INSERT INTO receipt (delivery_id, provider, event_key, n, kind, status, reason, occurred_at, raw, engagement)
    SELECT r.id, $4, r.event_key, r.n, r.kind, r.status, r.reason, r.occurred_at, r.raw, r.engagement
    FROM r JOIN known USING (id)
    ORDER BY r.id, r.event_key
    ON CONFLICT DO NOTHING
    RETURNING delivery_id, event_key, n, status, reason
),
best AS MATERIALIZED (
    SELECT DISTINCT ON (delivery_id) delivery_id AS id, event_key, status, reason
    FROM filed WHERE status IS NOT NULL ORDER BY delivery_id, status DESC, event_key
),
settled AS (
    DELETE FROM dispatch WHERE id = ANY(ARRAY(SELECT id FROM best)) AND state <> 2
    RETURNING id, state, provider, tries, started_at
),
begun AS MATERIALIZED (
    SELECT id, tries AS n, state, started_at FROM dispatch WHERE id = ANY($5::uuid[])
),
sure AS MATERIALIZED (
    SELECT delivery_id, n FROM attempt
    WHERE delivery_id = ANY($5::uuid[]) AND delivery_id BETWEEN $1 AND $2 AND outcome = 'sent'
),
taken AS MATERIALIZED (
    -- the tries that they are about, but for a call under way: its own end says what it heard
    SELECT DISTINCT ON (f.delivery_id, f.n) f.delivery_id AS id, f.n, r.message_id, begun.started_at
    FROM filed f
    JOIN r ON r.id = f.delivery_id AND r.event_key = f.event_key
    LEFT JOIN begun ON begun.id = f.delivery_id AND begun.n = f.n
    WHERE f.status IS NOT NULL AND begun.state IS DISTINCT FROM 2
      AND NOT EXISTS (SELECT FROM sure WHERE sure.delivery_id = f.delivery_id AND sure.n = f.n)
    ORDER BY f.delivery_id, f.n
),
attempts AS (
    -- a later word on a try: whatever its call heard, it was taken
    INSERT INTO attempt (delivery_id, n, provider, outcome, code, message_id, started_at)
    SELECT id, n, $4, 'sent', 'receipt', message_id, started_at FROM taken
    ON CONFLICT (delivery_id, n) DO UPDATE
    SET outcome = 'sent', code = 'receipt', message_id = coalesce(attempt.message_id, excluded.message_id)
    WHERE attempt.outcome <> 'sent'
),
overtaken AS (
    -- a doubt about a try that no receipt names stays one, with nothing left to do about it
    INSERT INTO attempt (delivery_id, n, provider, outcome, code, started_at)
    SELECT s.id, s.tries, s.provider, 'unsure', 'another_try', s.started_at
    FROM settled s
    WHERE s.state = 3 AND NOT EXISTS (
        SELECT FROM filed f WHERE f.delivery_id = s.id AND f.n = s.tries AND f.status IS NOT NULL
    )
    ON CONFLICT (delivery_id, n) DO NOTHING
),
moved AS (
    UPDATE delivery v
    SET status = best.status, reason = coalesce(best.reason, v.reason), finished_at = coalesce(v.finished_at, now())
    FROM best
    WHERE v.id = best.id AND v.id = ANY(ARRAY(SELECT id FROM best)) AND v.id BETWEEN $1 AND $2
      AND v.status < best.status
    RETURNING v.id, v.status, v.reason
),
told AS (
    INSERT INTO callback (id, webhook, delivery_id, status, reason)
    SELECT callback_about(m.id), l.webhook, m.id, m.status, m.reason
    FROM moved m JOIN listener l ON l.tenant = $3 AND l.events & (1::bigint << m.status) <> 0
),
against AS MATERIALIZED (
    -- a receipt may come before the end of the work has noted which of the user's addresses it went to
    SELECT DISTINCT ON (known.channel, hash, r.held_against)
           known.channel, coalesce(known.address_hash, r.address_hash) AS hash, r.held_against, r.lifted, r.id,
           least(r.occurred_at, now()) AS at
    FROM filed f
    JOIN r ON r.id = f.delivery_id AND r.event_key = f.event_key
    JOIN known ON known.id = f.delivery_id
    WHERE r.held_against IS NOT NULL
    ORDER BY known.channel, hash, r.held_against, r.occurred_at DESC, r.lifted
),
suppressed AS (
    -- what a provider holds against an address: the last word counts, as in suppressions.sql: merge
    INSERT INTO suppression AS old (tenant, channel, hash, reason, at, lifted, delivery_id)
    SELECT $3, channel, hash, held_against, at, lifted, id FROM against WHERE hash IS NOT NULL
    ON CONFLICT (slot, tenant, channel, hash, reason) DO UPDATE
    SET at = excluded.at, lifted = excluded.lifted, delivery_id = excluded.delivery_id, spread = false
    WHERE (excluded.at, NOT excluded.lifted) > (old.at, NOT old.lifted)
)
SELECT r.id, r.event_key, known.id IS NOT NULL AS known, filed.event_key IS NOT NULL AS new,
       best.id IS NOT NULL AND settled.state IS NOT DISTINCT FROM 3 AS resolved
FROM r
LEFT JOIN known ON known.id = r.id
LEFT JOIN filed ON filed.delivery_id = r.id AND filed.event_key = r.event_key
LEFT JOIN best ON best.id = r.id AND best.event_key = r.event_key
LEFT JOIN settled ON settled.id = r.id;

-- name: taken
-- The tries of deliveries in doubt that receipts report as taken.
SELECT delivery_id, array_agg(DISTINCT n) AS tries FROM receipt
WHERE delivery_id = ANY($1::uuid[]) AND delivery_id BETWEEN $2 AND $3 AND status IS NOT NULL
GROUP BY delivery_id;
