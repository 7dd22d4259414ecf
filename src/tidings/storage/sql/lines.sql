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
-- Who waits in a lane for a tenant's accounts, the oldest first, from behind $3 on. What is due comes by itself. Written
-- so that no other index gives this order: by id alone, all that is older would be walked.
SELECT id FROM dispatch
WHERE waits_for IS NOT NULL AND (waits_for, lane, id) > ($1, $2, $3) AND (waits_for, lane) <= ($1, $2)
  AND state = 0 AND due_at > now()
ORDER BY waits_for, lane, id
LIMIT $4;

-- name: let_go
-- Their turn, in this order. Whom somebody has claimed meanwhile is in good hands.
WITH free AS MATERIALIZED (
    SELECT t.id, t.n
    FROM (
        SELECT * FROM unnest($2::uuid[]) WITH ORDINALITY AS t(id, n) LIMIT cardinality($2::uuid[])
    ) t
    CROSS JOIN LATERAL (
        SELECT FROM dispatch WHERE id = ANY(ARRAY[t.id]) AND waits_for = $1 AND state = 0 FOR UPDATE SKIP LOCKED
    ) d
)
UPDATE dispatch d
SET due_at = now() + free.n * interval '1 microsecond', reason = 'provider_paced'
FROM free
WHERE d.id = ANY(ARRAY[free.id])
RETURNING d.id;
