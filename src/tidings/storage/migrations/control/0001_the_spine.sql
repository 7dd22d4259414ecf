-- Small, and cached whole in every process. version rises with every change, and that is how they notice.

CREATE TABLE catalog_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL
);
INSERT INTO catalog_version (version) VALUES (1);

CREATE FUNCTION catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE catalog_version SET version = version + 1;
    RETURN NULL;
END $$;

CREATE TABLE tenant (
    id         integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL UNIQUE,
    twin_of    integer     REFERENCES tenant,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- digest = HMAC-SHA256(pepper, the whole key): a copy of this table cannot authenticate
CREATE TABLE api_key (
    public_id  text        PRIMARY KEY,
    tenant     integer     NOT NULL REFERENCES tenant,
    name       text        NOT NULL,
    digest     bytea       NOT NULL,
    scopes     text[]      NOT NULL,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE category (
    id              integer  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          integer  NOT NULL REFERENCES tenant,
    name            text     NOT NULL,
    class           smallint NOT NULL CHECK (class IN (0, 1)),
    channels        smallint[] NOT NULL,
    doubt_policy    text     NOT NULL DEFAULT 'at_least_once' CHECK (doubt_policy IN ('at_least_once', 'at_most_once')),
    expires_after_s double precision,
    required        boolean  NOT NULL DEFAULT false,
    UNIQUE (tenant, name)
);

CREATE TABLE template (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    integer NOT NULL REFERENCES tenant,
    name      text    NOT NULL,
    category  integer NOT NULL REFERENCES category,
    published integer,
    UNIQUE (tenant, name)
);

CREATE TABLE template_version (
    id         integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    template   integer     NOT NULL REFERENCES template,
    number     integer     NOT NULL,
    source     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (template, number)
);
ALTER TABLE template ADD FOREIGN KEY (published) REFERENCES template_version;

CREATE TABLE sender (
    id       integer  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant   integer  NOT NULL REFERENCES tenant,
    name     text     NOT NULL,
    channel  smallint NOT NULL,
    identity jsonb    NOT NULL,
    UNIQUE (tenant, channel, name)
);

-- settings: AES-256-GCM under the master key (credentials are in it); receipt_token: the secret part of its webhook URL
CREATE TABLE account (
    id            smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        integer  NOT NULL REFERENCES tenant,
    name          text     NOT NULL,
    kind          text     NOT NULL,
    channel       smallint NOT NULL,
    settings      bytea    NOT NULL,
    receipt_token text     NOT NULL UNIQUE,
    UNIQUE (tenant, name)
);

CREATE TABLE route (
    tenant   integer    NOT NULL REFERENCES tenant,
    channel  smallint   NOT NULL,
    accounts smallint[] NOT NULL,
    PRIMARY KEY (tenant, channel)
);

-- slots first..last live in the shard; the DSNs come from the settings, by number
CREATE TABLE slot_range (
    first smallint PRIMARY KEY,
    last  smallint NOT NULL,
    shard smallint NOT NULL
);

-- receipts that name no delivery of ours: kept for a look, never acted on
CREATE TABLE stray_receipt (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account     smallint    NOT NULL,
    event_key   text        NOT NULL,
    raw         bytea       NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account, event_key)
);

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON tenant FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON api_key FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON category FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON template FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON sender FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON account FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON route FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON slot_range FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
