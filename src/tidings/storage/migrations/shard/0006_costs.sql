-- What a call came to if it was taken: units of its channel (messages, for SMS segments), and their cost in millionths
-- of its account's currency, NULL where the account has no price.
ALTER TABLE attempt ADD COLUMN units smallint, ADD COLUMN cost_micros bigint;
