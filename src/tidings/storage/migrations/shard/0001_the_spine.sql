-- Everything of a user stands in one shard. The slot leads every key that is not an id; ids carry it inside.
-- Stored numbers (channel, lane, state, status, outcome) are those of tidings.domain.

CREATE TABLE users (
    slot        smallint    NOT NULL,
    tenant      integer     NOT NULL,
    user_id     text        NOT NULL,
    zone        text,
    locale      text,
    attributes  jsonb       NOT NULL DEFAULT '{}',
    preferences jsonb,
    version     integer     NOT NULL DEFAULT 1,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (slot, tenant, user_id)
);

-- hash: keyed, of the normal form, so that an address can be found where its text must not be; position 0 is the
-- primary address of its channel
CREATE TABLE address (
    slot     smallint NOT NULL,
    tenant   integer  NOT NULL,
    user_id  text     NOT NULL,
    channel  smallint NOT NULL,
    position smallint NOT NULL,
    hash     bytea    NOT NULL,
    value    text     NOT NULL,
    PRIMARY KEY (slot, tenant, user_id, channel, position)
);

CREATE TABLE suppression (
    slot       smallint    NOT NULL,
    tenant     integer     NOT NULL,
    channel    smallint    NOT NULL,
    hash       bytea       NOT NULL,
    reason     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (slot, tenant, channel, hash)
);

-- kind 1: idempotency keys, kind 2: deduplication keys. Narrow and unpartitioned, because a unique index over time
-- partitions would have to contain the time. Emptied in small batches; an expired row counts as absent.
CREATE TABLE accept_key (
    slot            smallint    NOT NULL,
    tenant          integer     NOT NULL,
    user_id         text        NOT NULL,
    kind            smallint    NOT NULL CHECK (kind IN (1, 2)),
    hash            bytea       NOT NULL,
    notification_id uuid        NOT NULL,
    fingerprint     bytea,
    expires_at      timestamptz NOT NULL,
    replayed_at     timestamptz,
    PRIMARY KEY (slot, tenant, user_id, kind, hash)
) WITH (fillfactor = 90);
CREATE INDEX accept_key_expires ON accept_key (expires_at);

-- The next four are partitioned by the id, which is a time: see tidings.storage.partitions. The deliveries of a
-- notification share its milliseconds, so that all four rows stand in the partition of the same day.
CREATE TABLE notification (
    id               uuid        NOT NULL,
    slot             smallint    NOT NULL,
    tenant           integer     NOT NULL,
    user_id          text        NOT NULL,
    category         integer     NOT NULL,
    template_version integer,
    sender           integer,
    payload_key      smallint    NOT NULL DEFAULT 0,
    payload          bytea       NOT NULL,
    reference        text,
    send_at          timestamptz,
    expires_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX notification_history ON notification (slot, tenant, user_id, id);
CREATE INDEX notification_reference ON notification (tenant, reference) WHERE reference IS NOT NULL;

-- status: the last word, in rank order (domain.delivery.Mark); 0 while the dispatch row says where it stands.
-- It is in no index, so that changing it stays a HOT update. Those of one notification need no index of their own
-- either: they share its time and slot, the first 66 bits of the id.
CREATE TABLE delivery (
    id                 uuid     NOT NULL,
    notification_id    uuid     NOT NULL,
    tenant             integer  NOT NULL,
    step               smallint NOT NULL DEFAULT 0,
    channel            smallint NOT NULL,
    status             smallint NOT NULL DEFAULT 0
                       CHECK (status IN (0, 5, 10, 20, 30, 40, 41, 42, 43, 44)),
    duplicate_possible boolean  NOT NULL DEFAULT false,
    address            text,
    address_hash       bytea,
    reason             text,
    finished_at        timestamptz,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- One call to one provider. Appended, never changed but by a later word on the same try.
CREATE TABLE attempt (
    delivery_id uuid        NOT NULL,
    n           smallint    NOT NULL,
    provider    smallint    NOT NULL,
    outcome     text        NOT NULL CHECK (outcome IN ('sent', 'try_later', 'try_next', 'refused', 'unsure', 'fenced')),
    code        text        NOT NULL,
    detail      text,
    message_id  text,
    started_at  timestamptz,
    took_ms     integer,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, n)
) PARTITION BY RANGE (delivery_id);

CREATE TABLE receipt (
    delivery_id uuid        NOT NULL,
    provider    smallint    NOT NULL,
    event_key   text        NOT NULL,
    n           smallint    NOT NULL,
    kind        text        NOT NULL,
    status      smallint,
    reason      text,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    raw         bytea,
    PRIMARY KEY (delivery_id, provider, event_key)
) PARTITION BY RANGE (delivery_id);

-- The hot row of a delivery while something is left to do: queue, schedule, lease and outbox in one. due_at is the one
-- clock: when may it next be looked at (first send, schedule, retry, end of a hold). state: 0 ready, 1 leased,
-- 2 inflight, 3 in_doubt, 4 dead.
CREATE TABLE dispatch (
    id         uuid        NOT NULL PRIMARY KEY,
    token      bigint      NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    home       smallint    NOT NULL,
    lane       smallint    NOT NULL,
    state      smallint    NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 4),
    claims     smallint    NOT NULL DEFAULT 0,
    tries      smallint    NOT NULL DEFAULT 0,
    spent      smallint    NOT NULL DEFAULT 0,
    provider   smallint    NOT NULL DEFAULT 0,
    hinted     boolean     NOT NULL DEFAULT false,
    reason     text,
    detail     text,
    tried      smallint[]
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 1, autovacuum_analyze_scale_factor = 0.1
);
CREATE INDEX dispatch_due ON dispatch (lane, due_at);

-- The partitions of some days, made where missing. A UUIDv7 begins with 48 bits of milliseconds, so a day's first id is
-- its first millisecond followed by zeros.
CREATE FUNCTION make_partitions(first date, days integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    made integer := 0;
    parent text;
    day date;
BEGIN
    FOREACH parent IN ARRAY ARRAY['notification', 'delivery', 'attempt', 'receipt'] LOOP
        FOR offset_days IN 0 .. days - 1 LOOP
            day := first + offset_days;
            CONTINUE WHEN to_regclass(format('%I', parent || to_char(day, '_YYYYMMDD'))) IS NOT NULL;
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L) WITH (fillfactor = %s)',
                parent || to_char(day, '_YYYYMMDD'), parent, first_id(day), first_id(day + 1),
                CASE parent WHEN 'delivery' THEN 80 ELSE 100 END);
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION first_id(day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM day::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
