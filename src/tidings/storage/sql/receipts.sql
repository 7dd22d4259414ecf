-- name: file
-- Each receipt once, its delivery's status forward only, its doubt resolved. What a provider took must not be sent
-- again, so the dispatch goes too, unless a call is under way: then that call's own end settles it.
WITH r AS MATERIALIZED (
    SELECT * FROM unnest(
        $5::uuid[], $6::smallint[], $7::text[], $8::text[], $9::smallint[], $10::text[], $11::text[],
        $12::timestamptz[], $13::bytea[]
    ) AS r(id, n, event_key, kind, status, reason, message_id, occurred_at, raw)
),
known AS MATERIALIZED (
    SELECT v.id FROM delivery v
    WHERE v.id = ANY($5::uuid[]) AND v.id BETWEEN $1 AND $2 AND v.tenant = $3
),
filed AS (
    INSERT INTO receipt (delivery_id, provider, event_key, n, kind, status, reason, occurred_at, raw)
    SELECT r.id, $4, r.event_key, r.n, r.kind, r.status, r.reason, r.occurred_at, r.raw FROM r JOIN known USING (id)
    ORDER BY r.id, r.event_key
    ON CONFLICT DO NOTHING
    RETURNING delivery_id, event_key, n, status, reason
),
best AS MATERIALIZED (
    SELECT DISTINCT ON (delivery_id) delivery_id AS id, n, status, reason
    FROM filed WHERE status IS NOT NULL ORDER BY delivery_id, status DESC
),
settled AS (
    DELETE FROM dispatch d USING best WHERE d.id = best.id AND d.state <> 2
    RETURNING d.id, d.state, d.provider, d.tries, d.started_at
),
attempts AS (
    -- of the try that the receipt is about; a doubt about another try stays one, with nothing left to do about it
    INSERT INTO attempt (delivery_id, n, provider, outcome, code, message_id, started_at)
    SELECT DISTINCT ON (r.id, r.n) r.id, r.n, $4, 'sent', 'receipt', r.message_id,
           CASE WHEN r.n = settled.tries THEN settled.started_at END
    FROM settled JOIN best USING (id) JOIN r ON r.id = best.id AND r.n = best.n
    ON CONFLICT (delivery_id, n) DO UPDATE
    SET outcome = 'sent', code = 'receipt', message_id = coalesce(attempt.message_id, excluded.message_id)
),
overtaken AS (
    INSERT INTO attempt (delivery_id, n, provider, outcome, code, started_at)
    SELECT settled.id, settled.tries, settled.provider, 'unsure', 'another_try', settled.started_at
    FROM settled JOIN best USING (id) WHERE settled.state = 3 AND settled.tries <> best.n
    ON CONFLICT (delivery_id, n) DO NOTHING
),
moved AS (
    UPDATE delivery v
    SET status = best.status, reason = coalesce(best.reason, v.reason), finished_at = coalesce(v.finished_at, now())
    FROM best
    WHERE v.id = best.id AND v.id BETWEEN $1 AND $2 AND v.status < best.status
)
SELECT r.id, r.event_key, known.id IS NOT NULL AS known, filed.event_key IS NOT NULL AS new,
       settled.state IS NOT DISTINCT FROM 3 AS resolved
FROM r
LEFT JOIN known ON known.id = r.id
LEFT JOIN filed ON filed.delivery_id = r.id AND filed.event_key = r.event_key
LEFT JOIN settled ON settled.id = r.id;

-- name: taken
-- The tries of deliveries in doubt that receipts report as taken.
SELECT delivery_id, array_agg(DISTINCT n) AS tries FROM receipt
WHERE delivery_id = ANY($1::uuid[]) AND delivery_id BETWEEN $2 AND $3 AND status IS NOT NULL
GROUP BY delivery_id;
