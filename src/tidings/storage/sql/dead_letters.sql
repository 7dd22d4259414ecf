-- The dead letters: dispatches of the lane 3. Lists walk that lane along its index, a bounded piece at a time, and then
-- look up the rest by ids with bounds: LATERAL, one by one, because letters of one piece may be days apart, and a planner
-- that knows little prefers to read all that lies between. For the same reason the deliveries are changed by their ids
-- alone. An edit stands in the delivery, because a notification never changes.

-- name: newest
SELECT id, due_at FROM dispatch
WHERE lane = 3 AND state = 4 AND (due_at, id) < ($1::timestamptz, $2::uuid) AND due_at >= $3
  AND ($4::text IS NULL OR coalesce(reason, '') = $4) AND ($5::smallint IS NULL OR provider = $5)
  AND ($6::smallint[] IS NULL OR home = ANY($6::smallint[]))
ORDER BY due_at DESC, id DESC LIMIT $7;

-- name: oldest
SELECT id, due_at FROM dispatch
WHERE lane = 3 AND state = 4 AND (due_at, id) > ($1::timestamptz, $2::uuid) AND due_at < $3
  AND ($4::text IS NULL OR coalesce(reason, '') = $4) AND ($5::smallint IS NULL OR provider = $5)
  AND ($6::smallint[] IS NULL OR home = ANY($6::smallint[]))
ORDER BY due_at, id LIMIT $7;

-- name: letters
-- The tenant's among these ids. The code is that of the last attempt.
SELECT d.id, d.due_at AS buried_at, d.home, coalesce(d.reason, '') AS reason, d.detail, d.provider, a.code, v.address,
       v.notification_id, v.duplicate_possible, n.user_id, n.expires_at,
       CASE WHEN v.payload IS NULL THEN n.template_version ELSE v.template_version END AS template_version
FROM unnest($1::uuid[]) AS wanted(id)
CROSS JOIN LATERAL (SELECT * FROM dispatch d WHERE d.id = wanted.id AND d.state = 4 LIMIT 1) d
CROSS JOIN LATERAL (
    SELECT * FROM delivery v WHERE v.id = wanted.id AND v.id BETWEEN $2 AND $3 AND v.tenant = $4 LIMIT 1
) v
CROSS JOIN LATERAL (SELECT * FROM notification n WHERE n.id = v.notification_id AND n.id BETWEEN $2 AND $3 LIMIT 1) n
LEFT JOIN LATERAL (
    SELECT * FROM attempt a WHERE a.delivery_id = d.id AND a.n = d.tries AND a.delivery_id BETWEEN $2 AND $3 LIMIT 1
) a ON true
WHERE ($5::text IS NULL OR a.code = $5)
  AND ($6::int[] IS NULL
       OR CASE WHEN v.payload IS NULL THEN n.template_version ELSE v.template_version END = ANY($6::int[]))
ORDER BY d.due_at, d.id;

-- name: causes
-- The same, counted by what they have in common.
SELECT coalesce(d.reason, '') AS reason, v.channel, d.provider, a.code,
       CASE WHEN v.payload IS NULL THEN n.template_version ELSE v.template_version END AS template_version,
       count(*) AS count, min(d.due_at) AS first_at, max(d.due_at) AS last_at,
       (array_agg(d.id ORDER BY d.due_at DESC, d.id DESC))[1] AS latest
FROM unnest($1::uuid[]) AS wanted(id)
CROSS JOIN LATERAL (SELECT * FROM dispatch d WHERE d.id = wanted.id AND d.state = 4 LIMIT 1) d
CROSS JOIN LATERAL (
    SELECT * FROM delivery v WHERE v.id = wanted.id AND v.id BETWEEN $2 AND $3 AND v.tenant = $4 LIMIT 1
) v
CROSS JOIN LATERAL (SELECT * FROM notification n WHERE n.id = v.notification_id AND n.id BETWEEN $2 AND $3 LIMIT 1) n
LEFT JOIN LATERAL (
    SELECT * FROM attempt a WHERE a.delivery_id = d.id AND a.n = d.tries AND a.delivery_id BETWEEN $2 AND $3 LIMIT 1
) a ON true
WHERE ($5::text IS NULL OR a.code = $5)
  AND ($6::int[] IS NULL
       OR CASE WHEN v.payload IS NULL THEN n.template_version ELSE v.template_version END = ANY($6::int[]))
GROUP BY 1, 2, 3, 4, 5;

-- name: contents
-- What one would be sent with: to the address of its own, else to the user's primary one.
SELECT coalesce(v.address, a.value) AS address, coalesce(v.payload, n.payload) AS payload,
       coalesce(jsonb_array_length(v.notes), 0) AS version
FROM delivery v
CROSS JOIN LATERAL (SELECT * FROM notification n WHERE n.id = v.notification_id AND n.id BETWEEN $3 AND $4 LIMIT 1) n
LEFT JOIN address a ON v.address IS NULL AND a.slot = n.slot AND a.tenant = n.tenant AND a.user_id = n.user_id
                   AND a.channel = v.channel AND a.position = 0
WHERE v.id = $1 AND v.tenant = $2 AND v.id BETWEEN $3 AND $4;

-- name: edit
-- Only what is dead still, and has not been changed since it was read: every change adds a note.
WITH chosen AS (SELECT id FROM dispatch WHERE id = $1 AND state = 4 FOR UPDATE)
UPDATE delivery v
SET address = coalesce($5::text, v.address), address_hash = coalesce($6::bytea, v.address_hash),
    payload = coalesce($7::bytea, v.payload),
    template_version = CASE WHEN $7::bytea IS NULL THEN v.template_version ELSE $8::int END,
    notes = coalesce(v.notes, '[]')
            || jsonb_build_object('at', now(), 'what', 'edited', 'why', $9::text, 'by', $10::text)
WHERE EXISTS (SELECT FROM chosen) AND v.id = $1 AND v.tenant = $2 AND v.id BETWEEN $3 AND $4
  AND coalesce(jsonb_array_length(v.notes), 0) = $11
RETURNING v.id;

-- name: replay
-- Back to their lanes with a fresh schedule, each after so many seconds, but no later than it expires. A version is the
-- template's newest, NULL where it stays as it is.
WITH chosen AS MATERIALIZED (
    SELECT d.id, c.after_s, c.version, n.expires_at, n.payload, d.reason, d.due_at AS buried_at
    FROM unnest($1::uuid[], $5::float8[], $6::int[]) AS c(id, after_s, version)
    JOIN dispatch d ON d.id = c.id AND d.state = 4
    CROSS JOIN LATERAL (
        SELECT * FROM delivery v WHERE v.id = c.id AND v.id BETWEEN $2 AND $3 AND v.tenant = $4 LIMIT 1
    ) v
    CROSS JOIN LATERAL (
        SELECT * FROM notification n WHERE n.id = v.notification_id AND n.id BETWEEN $2 AND $3 LIMIT 1
    ) n
    ORDER BY d.id FOR UPDATE OF d
),
back AS (
    UPDATE dispatch d
    SET state = 0, lane = d.home, token = 0, claims = 0, spent = 0, tried = NULL, reason = NULL, detail = NULL,
        due_at = least(now() + chosen.after_s * interval '1 second', chosen.expires_at)
    FROM chosen WHERE d.id = chosen.id AND d.state = 4
    RETURNING d.id, chosen.version, chosen.payload, chosen.reason, chosen.buried_at
)
UPDATE delivery v
SET payload = CASE WHEN back.version IS NULL THEN v.payload ELSE coalesce(v.payload, back.payload) END,
    template_version = coalesce(back.version, v.template_version),
    notes = coalesce(v.notes, '[]')
            || jsonb_build_object('at', back.buried_at, 'what', 'buried', 'why', back.reason)
            || jsonb_build_object('at', now(), 'what', 'replayed', 'by', $7::text,
                                  'why', CASE WHEN back.version IS NOT NULL THEN 'newest template' END)
FROM back
WHERE v.id = back.id AND v.id = ANY(ARRAY(SELECT id FROM back)) AND v.id BETWEEN $2 AND $3
RETURNING v.id;

-- name: discard
-- Like every end of the work: after a try that may have gone and was repeated, what is left is unknown (5).
WITH chosen AS MATERIALIZED (
    SELECT d.id FROM dispatch d
    CROSS JOIN LATERAL (
        SELECT * FROM delivery v WHERE v.id = d.id AND v.id BETWEEN $2 AND $3 AND v.tenant = $4 LIMIT 1
    ) v
    WHERE d.id = ANY($1::uuid[]) AND d.state = 4
    ORDER BY d.id FOR UPDATE OF d
),
gone AS (
    DELETE FROM dispatch d USING chosen WHERE d.id = chosen.id AND d.state = 4
    RETURNING d.id, d.reason, d.due_at AS buried_at
),
done AS (
    UPDATE delivery v
    SET status = greatest(v.status, CASE WHEN v.duplicate_possible THEN 5 ELSE 44 END),
        reason = coalesce($5, gone.reason), finished_at = now(),
        notes = coalesce(v.notes, '[]')
                || jsonb_build_object('at', gone.buried_at, 'what', 'buried', 'why', gone.reason)
                || jsonb_build_object('at', now(), 'what', 'discarded', 'by', $6::text)
    FROM gone WHERE v.id = gone.id AND v.id = ANY(ARRAY(SELECT id FROM gone)) AND v.id BETWEEN $2 AND $3
    RETURNING v.id, v.status, v.reason
),
told AS (
    -- that it is dead is known since it was buried
    INSERT INTO callback (id, webhook, delivery_id, status, reason)
    SELECT callback_about(d.id), l.webhook, d.id, d.status, d.reason
    FROM done d JOIN listener l ON l.tenant = $4 AND l.events & (1::bigint << d.status) <> 0
    WHERE d.status <> 44
)
SELECT id FROM done;
