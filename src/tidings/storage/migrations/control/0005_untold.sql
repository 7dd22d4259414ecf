-- Of a webhook that was disabled, because it failed or was gone, the tenant's others are told. untold: not all of them yet.
ALTER TABLE webhook ADD COLUMN untold boolean NOT NULL DEFAULT false;
