-- What waits for accounts that are away, and its turns once they are back. Pure part: tidings.domain.line.

-- name: queues
-- Whose accounts are waited for, in which lanes: one descent of the index for each.
WITH RECURSIVE found AS (
    (SELECT waits_for, lane FROM dispatch WHERE waits_for IS NOT NULL ORDER BY waits_for, lane LIMIT 1)
    UNION ALL
    SELECT following.waits_for, following.lane
    FROM found
    CROSS JOIN LATERAL (
        SELECT waits_for, lane FROM dispatch
        WHERE waits_for IS NOT NULL AND (waits_for, lane) > (found.waits_for, found.lane)
        ORDER BY waits_for, lane LIMIT 1
    ) following
)
SELECT waits_for, lane FROM found;

-- name: read
-- Who waits in a lane for a tenant's accounts, the oldest first, from behind $3 on, and in how many seconds those who
-- have a turn have it.
SELECT id, CASE WHEN reason = 'provider_paced' THEN extract(epoch FROM due_at - now())::float8 END AS turn_s
FROM dispatch
WHERE waits_for = $1 AND lane = $2 AND id > $3 AND state = 0
  AND (NOT $5::boolean OR reason IN ('provider_paced', 'provider_backlog'))
ORDER BY id
LIMIT $4;

-- name: place
-- Turns, never later than the expiry. Whom somebody has claimed meanwhile is in good hands.
WITH free AS MATERIALIZED (
    SELECT t.id, t.after_s
    FROM (SELECT * FROM unnest($2::uuid[], $3::float8[]) AS t(id, after_s) LIMIT cardinality($2::uuid[])) t
    CROSS JOIN LATERAL (
        SELECT FROM dispatch WHERE id = ANY(ARRAY[t.id]) AND waits_for = $1 AND state = 0 FOR UPDATE SKIP LOCKED
    ) d
),
turns AS MATERIALIZED (
    SELECT free.id, free.after_s, n.expires_at
    FROM free
    CROSS JOIN LATERAL (
        SELECT notification_id FROM delivery WHERE id = free.id AND id BETWEEN $4 AND $5 AND tenant = $1 OFFSET 0
    ) v
    CROSS JOIN LATERAL (
        SELECT expires_at FROM notification WHERE id = v.notification_id AND id BETWEEN $4 AND $5 OFFSET 0
    ) n
)
UPDATE dispatch d
SET due_at = least(now() + turns.after_s * interval '1 second', turns.expires_at), reason = 'provider_paced',
    hinted = false
FROM turns
WHERE d.id = ANY(ARRAY[turns.id])
RETURNING d.id;
