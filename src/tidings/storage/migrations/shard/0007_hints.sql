-- Whether workers were told of a row is nobody's business any more: they look for what they were not told of
-- (docs/adr/0019).
ALTER TABLE dispatch DROP COLUMN hinted;
