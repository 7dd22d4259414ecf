-- Where the events of a tenant go. secrets: AES-256-GCM under the master key; disabled_because: by_request, failing, gone
CREATE TABLE webhook (
    id               integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant           integer     NOT NULL REFERENCES tenant,
    name             text        NOT NULL,
    url              text        NOT NULL,
    events           text[]      NOT NULL,
    secrets          bytea       NOT NULL,
    disabled_at      timestamptz,
    disabled_because text CHECK (disabled_because IN ('by_request', 'failing', 'gone')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, name),
    CHECK ((disabled_at IS NULL) = (disabled_because IS NULL))
);
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON webhook FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();

-- Those whose calls have failed since then, without one that succeeded. Apart from the catalog, which does not change
-- with the health of a receiver.
CREATE TABLE failing_webhook (
    webhook integer     PRIMARY KEY REFERENCES webhook ON DELETE CASCADE,
    since   timestamptz NOT NULL DEFAULT now(),
    code    text        NOT NULL
);
