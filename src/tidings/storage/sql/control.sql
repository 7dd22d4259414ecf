-- The control database: small, read whole into every process.

-- name: version
SELECT version FROM catalog_version;

-- name: tenants
SELECT id, name, twin_of FROM tenant;

-- name: tenant
SELECT id, name, twin_of FROM tenant WHERE id = $1;

-- name: keys
SELECT public_id, tenant, digest, scopes, expires_at FROM api_key;

-- name: categories
SELECT id, tenant, name, class, channels, doubt_policy, expires_after_s, required FROM category;

-- name: templates
SELECT tenant, name, published, category FROM template WHERE published IS NOT NULL;

-- name: senders
SELECT id, tenant, name, channel, identity::text AS identity FROM sender ORDER BY tenant, channel, id;

-- name: accounts
SELECT id, tenant, name, kind, channel, settings, receipt_token FROM account;

-- name: ordered
SELECT id, state, state_since FROM account WHERE state <> 'auto';

-- name: routes
SELECT tenant, channel, accounts, weights, rules::text AS rules FROM route;

-- name: rollouts
SELECT tenant, channel, percent FROM rollout;

-- name: slot_ranges
SELECT first, last, shard FROM slot_range ORDER BY first;

-- name: webhooks
SELECT id, tenant, name, url, events, secrets, disabled_at, disabled_because FROM webhook;

-- name: put_slot_range
INSERT INTO slot_range (first, last, shard) VALUES ($1, $2, $3);

-- name: put_tenant
INSERT INTO tenant (name, twin_of) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET twin_of = excluded.twin_of
RETURNING id;

-- name: put_key
INSERT INTO api_key (public_id, tenant, name, digest, scopes, expires_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: list_keys
SELECT k.public_id, t.name AS tenant, k.name, k.scopes, k.expires_at, k.created_at
FROM api_key k JOIN tenant t ON t.id = k.tenant ORDER BY k.created_at;

-- name: delete_key
DELETE FROM api_key WHERE public_id = $1 RETURNING public_id;

-- name: put_category
INSERT INTO category (tenant, name, class, channels, doubt_policy, expires_after_s, required)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant, name) DO UPDATE SET
    class = excluded.class, channels = excluded.channels, doubt_policy = excluded.doubt_policy,
    expires_after_s = excluded.expires_after_s, required = excluded.required
RETURNING id;

-- name: put_template
WITH t AS (
    INSERT INTO template (tenant, name, category)
    SELECT $1, $2, c.id FROM category c WHERE c.tenant = $1 AND c.name = $3
    ON CONFLICT (tenant, name) DO UPDATE SET category = excluded.category
    RETURNING id
)
INSERT INTO template_version (template, number, source)
SELECT t.id, coalesce((SELECT max(number) FROM template_version v WHERE v.template = t.id), 0) + 1, $4 FROM t
RETURNING id, template, number;

-- name: publish
UPDATE template SET published = $2 WHERE id = $1;

-- name: template_source
SELECT source FROM template_version WHERE id = $1;

-- name: template_versions
SELECT v.id, v.number, v.created_at, v.id = t.published AS published
FROM template t JOIN template_version v ON v.template = t.id
WHERE t.tenant = $1 AND t.name = $2 ORDER BY v.number;

-- name: template_names
-- Of these versions.
SELECT v.id, t.name FROM template t JOIN template_version v ON v.template = t.id
WHERE t.tenant = $1 AND v.id = ANY($2::int[]);

-- name: put_sender
INSERT INTO sender (tenant, name, channel, identity) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (tenant, channel, name) DO UPDATE SET identity = excluded.identity
RETURNING id;

-- name: find_account
SELECT id, settings, receipt_token FROM account WHERE tenant = $1 AND name = $2 FOR UPDATE;

-- name: change_account
-- Apart from the insert, which would draw a new number each time: there are 32,767 of them.
UPDATE account SET kind = $2, settings = $3 WHERE id = $1 RETURNING id;

-- name: set_account_state
UPDATE account SET state = $3, state_since = now() WHERE tenant = $1 AND name = $2 RETURNING id, state_since;

-- name: put_account
INSERT INTO account (tenant, name, kind, channel, settings, receipt_token) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, name) DO UPDATE SET kind = excluded.kind, settings = excluded.settings
RETURNING id;

-- name: put_route
INSERT INTO route (tenant, channel, accounts, weights, rules) VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (tenant, channel) DO UPDATE
SET accounts = excluded.accounts, weights = excluded.weights, rules = excluded.rules;

-- name: put_rollout
INSERT INTO rollout (tenant, channel, percent) VALUES ($1, $2, $3)
ON CONFLICT (tenant, channel) DO UPDATE SET percent = excluded.percent;

-- name: file_stray
INSERT INTO stray_receipt (account, event_key, raw)
SELECT $1, s.event_key, s.raw FROM unnest($2::text[], $3::bytea[]) AS s(event_key, raw)
WHERE (SELECT count(*) FROM stray_receipt) < $4
ON CONFLICT DO NOTHING;
