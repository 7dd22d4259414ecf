-- Push: one delivery for each live token of a user, and no token that lives no more.

-- name: fan_out
-- A push without an address of its own goes to all its user's tokens: itself to the first, and to each further one a
-- sibling, made here with its dispatch. Only for whoever holds it, and only while it has no address: so it happens once,
-- whoever crashes or comes late. The siblings' ids follow from its own and from the token. What has expired needs none.
WITH held AS MATERIALIZED (
    SELECT id, home FROM dispatch WHERE id = ANY($1::uuid[]) AND token = $4 AND state = 1 ORDER BY id FOR UPDATE
),
live AS MATERIALIZED (
    SELECT v.id, v.notification_id, v.tenant, v.step, v.channel, held.home, t.value, t.hash,
           row_number() OVER (PARTITION BY v.id ORDER BY t.position) AS place
    FROM held
    JOIN delivery v ON v.id = held.id AND v.id BETWEEN $2 AND $3 AND v.address IS NULL
    JOIN notification n ON n.id = v.notification_id AND n.id BETWEEN $2 AND $3
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (a.hash) a.hash, a.value, a.position
        FROM address a
        WHERE a.slot = n.slot AND a.tenant = n.tenant AND a.user_id = n.user_id AND a.channel = v.channel
        ORDER BY a.hash, a.position
    ) t
    WHERE n.expires_at IS NULL OR n.expires_at > now()
),
first AS (
    UPDATE delivery v SET address = live.value, address_hash = live.hash
    FROM live
    WHERE live.place = 1 AND v.id = live.id AND v.id = ANY(ARRAY(SELECT id FROM live)) AND v.id BETWEEN $2 AND $3
),
further AS MATERIALIZED (
    SELECT (left(id::text, 19) || '8' || left(encode(sha256(uuid_send(id) || hash), 'hex'), 15))::uuid AS sibling,
           notification_id, tenant, step, channel, home, value, hash
    FROM live WHERE place > 1
),
deliveries AS (
    INSERT INTO delivery (id, notification_id, tenant, step, channel, address, address_hash)
    SELECT sibling, notification_id, tenant, step, channel, value, hash FROM further
    ON CONFLICT DO NOTHING
    RETURNING id
),
dispatches AS (
    INSERT INTO dispatch (id, home, lane)
    SELECT further.sibling, further.home, further.home FROM deliveries JOIN further ON further.sibling = deliveries.id
)
SELECT id, count(*) - 1 AS siblings FROM live GROUP BY id;

-- name: forget_tokens
-- Tokens that a provider knows no more leave their users. The user's version rises, so that nobody who has read the old
-- list writes it back unseen. The gap that is left does no harm: tokens are read in their order, none by its place.
WITH dead AS MATERIALIZED (
    SELECT n.slot, n.tenant, n.user_id, v.channel, v.address_hash AS hash
    FROM delivery v JOIN notification n ON n.id = v.notification_id AND n.id BETWEEN $2 AND $3
    WHERE v.id = ANY($1::uuid[]) AND v.id BETWEEN $2 AND $3 AND v.channel = 3
),
owners AS MATERIALIZED (
    -- first the user, then the addresses: as whoever edits them
    SELECT u.slot, u.tenant, u.user_id FROM users u
    WHERE (u.slot, u.tenant, u.user_id) IN (SELECT slot, tenant, user_id FROM dead)
    ORDER BY 1, 2, 3 FOR UPDATE
),
gone AS (
    DELETE FROM address a USING dead JOIN owners USING (slot, tenant, user_id)
    WHERE a.slot = dead.slot AND a.tenant = dead.tenant AND a.user_id = dead.user_id AND a.channel = dead.channel
      AND a.hash = dead.hash
    RETURNING a.slot, a.tenant, a.user_id
)
UPDATE users u SET version = u.version + 1, updated_at = now()
FROM (SELECT DISTINCT slot, tenant, user_id FROM gone) g
WHERE u.slot = g.slot AND u.tenant = g.tenant AND u.user_id = g.user_id;
