-- Plain reading, always within one tenant. Lists go from new to old; ids are times, and their bounds choose the
-- partitions.

-- name: notification
SELECT id, tenant, user_id, category, template_version, reference, payload, send_at, expires_at, created_at
FROM notification WHERE id = $1 AND tenant = $2;

-- name: by_user
-- From one shard, along notification_history.
SELECT id, tenant, user_id, category, template_version, reference, payload, send_at, expires_at, created_at
FROM notification
WHERE slot = $6 AND tenant = $1 AND user_id = $7 AND id >= $2 AND id < $3
  AND ($4::int IS NULL OR category = $4) AND ($8::text IS NULL OR reference = $8)
ORDER BY id DESC LIMIT $5;

-- name: by_reference
SELECT id, tenant, user_id, category, template_version, reference, payload, send_at, expires_at, created_at
FROM notification
WHERE tenant = $1 AND id >= $2 AND id < $3 AND ($4::int IS NULL OR category = $4) AND reference = $6
ORDER BY id DESC LIMIT $5;

-- name: by_time
SELECT id, tenant, user_id, category, template_version, reference, payload, send_at, expires_at, created_at
FROM notification
WHERE tenant = $1 AND id >= $2 AND id < $3 AND ($4::int IS NULL OR category = $4)
ORDER BY id DESC LIMIT $5;

-- name: deliveries
-- Where they stand: the delivery's last word, and the dispatch while something is left to do. The end of a hold or the
-- next look may lie behind the expiry; what callers see never does. A dead letter's is the time of its burial.
SELECT v.id, v.notification_id, v.channel, v.address, v.status, v.duplicate_possible, v.finished_at, n.send_at,
       d.state, CASE WHEN d.state < 4 THEN least(d.due_at, n.expires_at) ELSE d.due_at END AS due_at,
       coalesce(v.reason, d.reason) AS reason, coalesce(d.detail, v.detail) AS detail, v.notes, now() AS now
FROM unnest($1::uuid[], $5::uuid[], $6::uuid[]) AS wanted(id, lowest, highest)
JOIN notification n ON n.id = wanted.id AND n.id BETWEEN $3 AND $4
JOIN delivery v ON v.id BETWEEN wanted.lowest AND wanted.highest AND v.notification_id = wanted.id
LEFT JOIN dispatch d ON d.id = v.id
WHERE v.tenant = $2 AND v.id BETWEEN $3 AND $4
ORDER BY v.step, v.channel, v.id;

-- name: attempts
SELECT delivery_id, n, provider, outcome, code, detail, message_id, started_at, took_ms, at, units, cost_micros
FROM attempt WHERE delivery_id = ANY($1::uuid[]) AND delivery_id BETWEEN $2 AND $3 ORDER BY delivery_id, n;

-- name: receipts
SELECT delivery_id, n, provider, kind, status, reason, engagement, occurred_at, received_at
FROM receipt WHERE delivery_id = ANY($1::uuid[]) AND delivery_id BETWEEN $2 AND $3 ORDER BY delivery_id, received_at;
