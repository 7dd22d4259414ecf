-- What a person changed before a dead letter went out after all. payload and template_version stand in place of the
-- notification's, which never changes; the address has its column already. notes: what was done to it, and when.
-- All of it is NULL for nearly every delivery, and then costs nothing.
ALTER TABLE delivery
    ADD COLUMN payload bytea,
    ADD COLUMN template_version integer,
    ADD COLUMN notes jsonb;
