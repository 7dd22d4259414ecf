-- How much there is, for people and metrics: what these read is bounded, however much waits.

-- name: lanes
-- Along the index, the oldest first, and of each lane no more than $2.
SELECT wanted.lane, ahead.waiting, ahead.due, coalesce(ahead.oldest_due_s, 0)::float8 AS oldest_due_s
FROM unnest($1::smallint[]) AS wanted(lane)
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, count(*) FILTER (WHERE due_at <= now()) AS due,
           extract(epoch FROM now() - min(due_at) FILTER (WHERE due_at <= now())) AS oldest_due_s
    FROM (SELECT due_at FROM dispatch WHERE lane = wanted.lane ORDER BY due_at LIMIT $2) few
) ahead;

-- name: pages
-- Of the table as it is now.
SELECT pg_relation_size('dispatch') / current_setting('block_size')::int AS pages;

-- name: sampled
-- From $1 percent of the pages of the table, chosen by chance.
SELECT lane, count(*) AS waiting, count(*) FILTER (WHERE due_at <= now()) AS due
FROM dispatch TABLESAMPLE system ($1) GROUP BY lane;

-- name: buried
-- The causes of the dead letters that were buried last.
SELECT coalesce(reason, '') AS reason, (home / 10)::int AS channel, provider, count(*) AS count
FROM (SELECT reason, home, provider FROM dispatch WHERE lane = 3 ORDER BY due_at DESC LIMIT $1) newest
GROUP BY 1, 2, 3;

-- name: accounts
-- Of the control database.
SELECT a.id, a.name, t.name AS tenant, a.channel, a.state, a.state_since
FROM account a JOIN tenant t ON t.id = a.tenant ORDER BY t.name, a.name;
