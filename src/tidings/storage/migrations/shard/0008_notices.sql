-- An event that is about no delivery: body, as it is told. It needs nothing else of what a callback has.
ALTER TABLE callback
    ALTER COLUMN delivery_id DROP NOT NULL,
    ALTER COLUMN status DROP NOT NULL,
    ADD COLUMN body bytea;
