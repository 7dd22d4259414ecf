-- How much is in doubt. A lane is ten times its channel, and the class.

-- name: standing
SELECT (home / 10)::int AS channel, provider, count(*) AS count, min(started_at) AS oldest_at, now() AS now
FROM dispatch WHERE lane = 2 AND state = 3 GROUP BY 1, 2;

-- name: standing_of
-- Those of one tenant.
SELECT (d.home / 10)::int AS channel, d.provider, count(*) AS count, min(d.started_at) AS oldest_at, now() AS now
FROM dispatch d JOIN delivery v ON v.id = d.id
WHERE d.lane = 2 AND d.state = 3 AND v.tenant = $1 GROUP BY 1, 2;
