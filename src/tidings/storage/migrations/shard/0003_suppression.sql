-- What is held against an address holds for the whole tenant, wherever the user lives: every shard has the whole list,
-- under the slot -1. One row for each reason, so that one can be lifted without another; a lifted one stays, so that an
-- older word that comes late does not bring it back. at: when it was last said; spread: every other shard knows.
ALTER TABLE suppression
    DROP CONSTRAINT suppression_pkey,
    ADD PRIMARY KEY (slot, tenant, channel, hash, reason),
    ALTER COLUMN slot SET DEFAULT -1,
    ADD COLUMN lifted boolean NOT NULL DEFAULT false,
    ADD COLUMN delivery_id uuid,
    ADD COLUMN spread boolean NOT NULL DEFAULT false;
ALTER TABLE suppression RENAME COLUMN created_at TO at;
CREATE INDEX suppression_unspread ON suppression (at) WHERE NOT spread;

ALTER TABLE receipt ADD COLUMN engagement text;
