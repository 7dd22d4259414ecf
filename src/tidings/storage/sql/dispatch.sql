-- How these statements are written leaves the planner one plan, whatever it believes of the tables (docs/adr/0007):
-- d.id = ANY(ARRAY[x.id]) can only be a look-up by the primary key for each x, never a walk through the queue; a LIMIT
-- says that the list which drives the statement is short; a LATERAL with OFFSET 0 is looked up row by row; and id =
-- ANY(ARRAY(SELECT …)) beside the bounds is one descent of the index for each, never a walk from bound to bound. No
-- partition is found by a join: PostgreSQL 18 loses such a row when somebody else is changing it.

-- The hot row: claimed, marked, settled. Pure twin: tidings.domain.dispatch.

-- name: claim
-- One statement for all lanes, a limit for each. An expired in-flight row is not sent again from here: it moves to the
-- in-doubt lane, due at once, for the resolver. A claim makes no doubt and no dead letter ready to be sent.
WITH c AS MATERIALIZED (
    SELECT d.id
    FROM unnest($1::smallint[], $2::int[]) AS wanted(lane, n)
    CROSS JOIN LATERAL (
        SELECT id FROM dispatch
        WHERE lane = wanted.lane AND due_at <= now()
        ORDER BY due_at
        LIMIT wanted.n
        FOR UPDATE SKIP LOCKED
    ) d
)
UPDATE dispatch d
SET state = CASE d.state WHEN 0 THEN 1 WHEN 2 THEN 3 ELSE d.state END,
    lane = CASE WHEN d.state = 2 THEN 2 ELSE d.lane END,
    claims = d.claims + CASE WHEN d.state = 2 THEN 0 ELSE 1 END,
    due_at = CASE WHEN d.state = 2 THEN now() ELSE now() + $3::float8 * interval '1 second' END,
    token = $4::bigint
FROM c
WHERE d.id = ANY(ARRAY[c.id])
RETURNING d.id, d.lane, d.home, d.state, d.claims, d.tries, d.spent, d.tried, d.provider, d.started_at, d.reason,
          now() AS now;

-- name: claim_named
-- The same for rows that hints have named, in the order of their ids: two workers that were told of the same rows wait
-- for each other, never in a circle. What is held, done, or not due yet is left alone: a hint may come twice.
UPDATE dispatch d
SET state = CASE d.state WHEN 0 THEN 1 WHEN 2 THEN 3 ELSE d.state END,
    lane = CASE WHEN d.state = 2 THEN 2 ELSE d.lane END,
    claims = d.claims + CASE WHEN d.state = 2 THEN 0 ELSE 1 END,
    due_at = CASE WHEN d.state = 2 THEN now() ELSE now() + $3::float8 * interval '1 second' END,
    token = $4::bigint
FROM (SELECT id FROM unnest($1::uuid[]) AS named(id) ORDER BY id LIMIT cardinality($1)) named
WHERE d.id = ANY(ARRAY[named.id]) AND d.due_at <= now() AND d.lane = ANY($2::smallint[])
RETURNING d.id, d.lane, d.home, d.state, d.claims, d.tries, d.spent, d.tried, d.provider, d.started_at, d.reason,
          now() AS now;

-- name: load
-- All that deciding and sending need of what was just claimed. A statement of its own, because only now the bounds of
-- the ids are known, and without them it would open every partition. What a person edited goes before what was asked.
SELECT v.id, v.notification_id, v.tenant, v.channel, v.duplicate_possible, n.slot, n.user_id, n.category, n.sender,
       n.created_at, n.expires_at, u.preferences, u.zone, u.locale, coalesce(v.payload, n.payload) AS payload,
       CASE WHEN v.payload IS NULL THEN n.template_version ELSE v.template_version END AS template_version,
       coalesce(v.address, a.value) AS address, coalesce(v.address_hash, a.hash) AS address_hash,
       (SELECT json_object_agg(s.reason, s.at) FROM suppression s
        WHERE s.slot = -1 AND s.tenant = n.tenant AND s.channel = v.channel
          AND s.hash = coalesce(v.address_hash, a.hash) AND NOT s.lifted) AS suppressed
FROM delivery v
CROSS JOIN LATERAL (
    SELECT * FROM notification WHERE id = v.notification_id AND id BETWEEN $2 AND $3 OFFSET 0
) n
LEFT JOIN users u ON u.slot = n.slot AND u.tenant = n.tenant AND u.user_id = n.user_id
LEFT JOIN address a ON v.address IS NULL AND a.slot = n.slot AND a.tenant = n.tenant AND a.user_id = n.user_id
                   AND a.channel = v.channel AND a.position = 0 AND v.channel <> 3 -- push: to every token, push.sql
WHERE v.id = ANY($1::uuid[]) AND v.id BETWEEN $2 AND $3;

-- name: mark
-- The durable note before the call. Only what comes back may be sent.
UPDATE dispatch d
SET state = 2, provider = m.provider, tries = d.tries + 1, started_at = now()
FROM (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::smallint[]) AS m(id, token, provider) LIMIT cardinality($1)
) m
WHERE d.id = ANY(ARRAY[m.id]) AND d.token = m.token AND d.state = 1
  AND d.due_at - $4::float8 * interval '1 second' > now()
RETURNING d.id, d.tries;

-- name: settle
-- What became of a batch of holds, in one commit: the attempts, the deliveries that are done, the dispatches that go or
-- stay. A late answer may still settle what is in doubt about the same try; "sent" (10) is the truth whoever says it,
-- and about whichever try. mark NULL: not done, back to state and lane (lane NULL: home), unless a receipt already said
-- that an earlier try was taken (10 to 30): then it is done. The ids that were still held come back, and which of them
-- were in doubt until their own worker answered after all (late).
WITH r AS MATERIALIZED (
    SELECT * FROM unnest(
        $3::uuid[], $4::bigint[], $5::smallint[], $6::smallint[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::timestamptz[], $12::int[], $13::smallint[], $14::bigint[], $15::smallint[], $16::text[], $17::text[],
        $18::bytea[], $19::smallint[], $20::smallint[], $21::float8[], $22::timestamptz[], $23::smallint[], $24::text[],
        $25::boolean[], $26::text[], $27::text[], $28::int[]
    ) AS r(id, token, n, provider, outcome, code, detail, message_id,
           started_at, took_ms, units, cost_micros, mark, reason, address,
           address_hash, state, lane, after_s, expires_at, spent, tried,
           duplicate_possible, why, held_against, waits_for)
    ORDER BY id  -- as receipts come, so that the two never lock rows in opposite order
    LIMIT cardinality($3)
),
attempts AS (
    INSERT INTO attempt (
        delivery_id, n, provider, outcome, code, detail, message_id, started_at, took_ms, units, cost_micros
    )
    SELECT id, n, provider, outcome, code, detail, message_id, started_at, took_ms, units, cost_micros
    FROM r WHERE outcome IS NOT NULL
    ON CONFLICT (delivery_id, n) DO UPDATE
    SET outcome = excluded.outcome, code = excluded.code, detail = excluded.detail,
        message_id = coalesce(excluded.message_id, attempt.message_id), at = now(),
        units = coalesce(excluded.units, attempt.units),
        cost_micros = coalesce(excluded.cost_micros, attempt.cost_micros)
    WHERE attempt.outcome <> 'sent'
),
ends AS MATERIALIZED (
    SELECT id, token, n, mark, mark = 10 AS sure, reason, why, address, address_hash FROM r WHERE mark IS NOT NULL
    UNION ALL
    SELECT r.id, r.token, r.n, v.status, false, NULL, NULL, r.address, r.address_hash
    FROM r CROSS JOIN LATERAL (
        SELECT status FROM delivery WHERE id = r.id AND id BETWEEN $1 AND $2 OFFSET 0
    ) v
    WHERE r.mark IS NULL AND v.status BETWEEN 10 AND 30
),
gone AS (
    DELETE FROM dispatch d USING ends r
    WHERE d.id = ANY(ARRAY[r.id]) AND (r.sure OR (d.tries = r.n AND (d.token = r.token OR d.state = 3)))
    RETURNING d.id, d.state, d.tries, d.provider, d.started_at, d.state = 3 AND d.token <> r.token AS late,
              r.n, r.mark, r.reason, r.why, r.address, r.address_hash
),
overtaken AS (
    -- a newer try than the one that was taken may have gone too, and perhaps nobody is left to say so
    INSERT INTO attempt (delivery_id, n, provider, outcome, code, started_at)
    SELECT id, tries, provider, 'unsure', 'another_try', started_at FROM gone WHERE state IN (2, 3) AND tries <> n
    ON CONFLICT (delivery_id, n) DO NOTHING
),
doubted AS MATERIALIZED (
    -- an update cannot tell what was there before it; for the few that stay it is read
    SELECT r.id FROM r CROSS JOIN LATERAL (SELECT state, token FROM dispatch WHERE id = r.id OFFSET 0) d
    WHERE r.mark IS NULL AND d.state = 3 AND d.token <> r.token
),
kept AS (
    UPDATE dispatch d
    SET state = r.state, lane = coalesce(r.lane, d.home), token = 0, claims = 0,
        due_at = least(now() + r.after_s * interval '1 second', CASE WHEN r.state = 0 THEN r.expires_at END),
        tried = CASE WHEN r.state = 0 THEN r.tried::smallint[] ELSE d.tried END,
        spent = d.spent + coalesce(r.spent, 0), reason = r.reason, detail = r.why,
        waits_for = r.waits_for
    FROM r
    WHERE r.mark IS NULL AND r.id NOT IN (SELECT id FROM ends)
      AND d.id = ANY(ARRAY[r.id]) AND d.tries = r.n AND (d.token = r.token OR d.state = 3)
    RETURNING d.id, d.state, d.reason, r.duplicate_possible
),
done AS (
    -- after a try that was taken, or may have been, a refusal or an expiry (above 30) is not the whole truth
    UPDATE delivery v
    SET (status, reason, detail, finished_at, address, address_hash) = (
        SELECT greatest(v.status, CASE
                   WHEN gone.mark > 30 AND (v.duplicate_possible OR v.status BETWEEN 10 AND 30) THEN 5 ELSE gone.mark END),
               coalesce(gone.reason, v.reason), coalesce(gone.why, v.detail), coalesce(v.finished_at, now()),
               coalesce(v.address, gone.address), coalesce(v.address_hash, gone.address_hash)
        FROM gone WHERE gone.id = v.id
    )
    WHERE v.id = ANY(ARRAY(SELECT id FROM gone)) AND v.id BETWEEN $1 AND $2
    RETURNING v.id, v.tenant, v.status, v.reason, v.finished_at = now() AS new
),
late AS (
    -- a delivery that ended as unknown (5) can still learn that it was sent, as it can from a receipt
    UPDATE delivery v SET status = 10
    WHERE v.id = ANY(ARRAY(SELECT id FROM r WHERE mark = 10 AND id NOT IN (SELECT id FROM gone)))
      AND v.id BETWEEN $1 AND $2 AND v.status = 5
    RETURNING v.id, v.tenant, v.status, v.reason
),
flagged AS (
    UPDATE delivery v SET duplicate_possible = true
    WHERE v.id = ANY(ARRAY(SELECT id FROM kept WHERE duplicate_possible)) AND v.id BETWEEN $1 AND $2
),
suppressed AS (
    -- what a provider holds against an address: the last word counts, as in suppressions.sql: merge
    INSERT INTO suppression AS old (tenant, channel, hash, reason, at, delivery_id)
    SELECT DISTINCT ON (v.tenant, v.channel, r.address_hash, r.held_against)
           v.tenant, v.channel, r.address_hash, r.held_against, now(), r.id
    FROM r CROSS JOIN LATERAL (
        SELECT tenant, channel FROM delivery WHERE id = r.id AND id BETWEEN $1 AND $2 OFFSET 0
    ) v
    WHERE r.held_against IS NOT NULL AND r.address_hash IS NOT NULL
    ORDER BY v.tenant, v.channel, r.address_hash, r.held_against
    ON CONFLICT (slot, tenant, channel, hash, reason) DO UPDATE
    SET at = excluded.at, lifted = false, delivery_id = excluded.delivery_id, spread = false
    WHERE excluded.at > old.at
),
changed AS (
    -- what callers see; not what a receipt had told them before the work ended
    SELECT id, tenant, status, reason FROM done WHERE new
    UNION ALL
    SELECT id, tenant, status, reason FROM late
    UNION ALL
    SELECT kept.id, v.tenant, 44, kept.reason
    FROM kept CROSS JOIN LATERAL (
        SELECT tenant FROM delivery WHERE id = kept.id AND id BETWEEN $1 AND $2 OFFSET 0
    ) v
    WHERE kept.state = 4
),
told AS (
    INSERT INTO callback (id, webhook, delivery_id, status, reason)
    SELECT callback_about(c.id), l.webhook, c.id, c.status, c.reason
    FROM changed c JOIN listener l ON l.tenant = c.tenant AND l.events & (1::bigint << c.status) <> 0
)
SELECT id, late FROM gone UNION ALL SELECT id, id IN (SELECT id FROM doubted) FROM kept;

-- name: give_back
-- Untouched holds, due again at once.
UPDATE dispatch d
SET state = 0, token = 0, claims = greatest(d.claims - 1, 0), due_at = now()
FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS held(id, token) LIMIT cardinality($1)) held
WHERE d.id = ANY(ARRAY[held.id]) AND d.token = held.token AND d.state = 1;

-- name: hand_back_doubt
-- A look at a doubt that settled nothing: looked at again later.
UPDATE dispatch d
SET token = 0, due_at = now() + held.after_s * interval '1 second'
FROM (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS held(id, token, after_s) LIMIT cardinality($1)
) held
WHERE d.id = ANY(ARRAY[held.id]) AND d.token = held.token AND d.state = 3;

-- name: cancel
-- What has not been marked has not left: its dispatch goes, and a worker that holds it can no longer mark it.
WITH gone AS (
    DELETE FROM dispatch d USING delivery v
    WHERE v.notification_id = $1 AND v.tenant = $2 AND v.id BETWEEN $3 AND $4 AND d.id = v.id AND d.state IN (0, 1)
    RETURNING d.id
),
changed AS (
    UPDATE delivery v
    SET status = greatest(v.status, CASE WHEN v.duplicate_possible THEN 5 ELSE 42 END),
        reason = 'cancelled', finished_at = now()
    WHERE v.id = ANY(ARRAY(SELECT id FROM gone)) AND v.id BETWEEN $3 AND $4
    RETURNING v.id, v.status, v.reason
),
told AS (
    INSERT INTO callback (id, webhook, delivery_id, status, reason)
    SELECT callback_about(c.id), l.webhook, c.id, c.status, c.reason
    FROM changed c JOIN listener l ON l.tenant = $2 AND l.events & (1::bigint << c.status) <> 0
)
SELECT id FROM changed;

