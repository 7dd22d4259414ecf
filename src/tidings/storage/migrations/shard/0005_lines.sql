-- waits_for: the tenant for one of whose accounts a delivery waits; NULL for all that do not wait for an account, and
-- then it costs nothing. The index holds those alone: the line of a lane, the oldest first.
ALTER TABLE dispatch ADD COLUMN waits_for integer;
CREATE INDEX dispatch_line ON dispatch (waits_for, lane, id) WHERE waits_for IS NOT NULL;
