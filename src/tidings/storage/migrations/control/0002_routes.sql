-- What an operator wants of an account, and since when.
ALTER TABLE account
    ADD COLUMN state       text        NOT NULL DEFAULT 'auto' CHECK (state IN ('auto', 'paused', 'forced')),
    ADD COLUMN state_since timestamptz NOT NULL DEFAULT now();

-- weights: beside accounts, NULL for one that has a rank of its own; fewer than accounts: none for the rest.
-- rules: orders of their own for a category or a country, the first that fits counts.
ALTER TABLE route
    ADD COLUMN weights smallint[] NOT NULL DEFAULT '{}',
    ADD COLUMN rules   jsonb      NOT NULL DEFAULT '[]';
