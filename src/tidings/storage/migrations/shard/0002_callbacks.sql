-- Which webhooks want to hear of which statuses: bit n stands for status n. Copied from the control database, so that a
-- change of status and the callbacks about it are one commit; listening says which version of it was copied.
CREATE TABLE listening (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint      NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE listener (
    tenant  integer NOT NULL,
    webhook integer NOT NULL,
    events  bigint  NOT NULL,
    PRIMARY KEY (tenant, webhook)
);

-- One event for one webhook, until it was told. id: the same for every try, with the time and the slot of its delivery.
CREATE TABLE callback (
    id          uuid        NOT NULL PRIMARY KEY,
    webhook     integer     NOT NULL,
    delivery_id uuid        NOT NULL,
    status      smallint    NOT NULL,
    reason      text,
    at          timestamptz NOT NULL DEFAULT now(),
    due_at      timestamptz NOT NULL DEFAULT now(),
    token       bigint      NOT NULL DEFAULT 0,
    tries       smallint    NOT NULL DEFAULT 0
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 1, autovacuum_analyze_scale_factor = 0.1
);
CREATE INDEX callback_due ON callback (webhook, due_at);

CREATE FUNCTION callback_about(delivery uuid) RETURNS uuid LANGUAGE sql VOLATILE
RETURN (left(delivery::text, 18) || substr(gen_random_uuid()::text, 19))::uuid;
