-- For how many of a tenant's users a channel is on, in percent. Without a row it is on for all.
CREATE TABLE rollout (
    tenant  integer          NOT NULL REFERENCES tenant,
    channel smallint         NOT NULL,
    percent double precision NOT NULL CHECK (percent BETWEEN 0 AND 100),
    PRIMARY KEY (tenant, channel)
);
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON rollout FOR EACH STATEMENT EXECUTE FUNCTION catalog_changed();
