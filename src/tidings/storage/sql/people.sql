-- Users and their addresses. expected is the version that the caller has seen, NULL where any will do.

-- name: put
-- Any number of users of one shard, each whole; preferences stay as they are. Who is not among the returned was changed
-- by somebody else in the meantime.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[])
        AS a(slot, user_id, zone, locale, attributes, expected)
),
put AS (
    INSERT INTO users AS known (slot, tenant, user_id, zone, locale, attributes)
    SELECT a.slot, $1, a.user_id, a.zone, a.locale, a.attributes::jsonb FROM asked a
    WHERE a.expected IS NULL OR EXISTS (
        SELECT FROM users u
        WHERE u.slot = a.slot AND u.tenant = $1 AND u.user_id = a.user_id AND u.version = a.expected)
    ORDER BY a.slot, a.user_id
    ON CONFLICT (slot, tenant, user_id) DO UPDATE
    SET zone = excluded.zone, locale = excluded.locale, attributes = excluded.attributes, version = known.version + 1,
        updated_at = now()
    WHERE NOT EXISTS (
        SELECT FROM asked a WHERE a.slot = known.slot AND a.user_id = known.user_id AND a.expected <> known.version)
    RETURNING known.slot, known.user_id, known.version, known.updated_at
),
new AS MATERIALIZED (
    SELECT a.slot, a.user_id, a.channel, a.position, a.hash, a.value
    FROM unnest($8::smallint[], $9::text[], $10::smallint[], $11::smallint[], $12::bytea[], $13::text[])
        AS a(slot, user_id, channel, position, hash, value)
    JOIN put USING (slot, user_id)
),
gone AS (
    DELETE FROM address a USING put
    WHERE a.slot = put.slot AND a.tenant = $1 AND a.user_id = put.user_id AND NOT EXISTS (
        SELECT FROM new
        WHERE new.slot = a.slot AND new.user_id = a.user_id AND new.channel = a.channel AND new.position = a.position)
),
addresses AS (
    INSERT INTO address AS known (slot, tenant, user_id, channel, position, hash, value)
    SELECT slot, $1, user_id, channel, position, hash, value FROM new ORDER BY slot, user_id, channel, position
    ON CONFLICT (slot, tenant, user_id, channel, position) DO UPDATE SET hash = excluded.hash, value = excluded.value
    WHERE known.hash <> excluded.hash OR known.value <> excluded.value
)
SELECT user_id, version, updated_at FROM put;

-- name: get
SELECT u.zone, u.locale, u.attributes::text AS attributes, u.version, u.updated_at,
       array(SELECT a.channel FROM address a
             WHERE a.slot = u.slot AND a.tenant = u.tenant AND a.user_id = u.user_id
             ORDER BY a.channel, a.position) AS channels,
       array(SELECT a.value FROM address a
             WHERE a.slot = u.slot AND a.tenant = u.tenant AND a.user_id = u.user_id
             ORDER BY a.channel, a.position) AS addresses
FROM users u WHERE u.slot = $1 AND u.tenant = $2 AND u.user_id = $3;

-- name: delete
WITH gone AS (
    DELETE FROM users
    WHERE slot = $1 AND tenant = $2 AND user_id = $3 AND ($4::int IS NULL OR version = $4)
    RETURNING slot, tenant, user_id
),
addresses AS (
    DELETE FROM address a USING gone
    WHERE a.slot = gone.slot AND a.tenant = gone.tenant AND a.user_id = gone.user_id
)
SELECT user_id FROM gone;
