-- detail: more about the reason of a delivery that is done, such as what its address was suppressed for; while something
-- is left to do the dispatch has it. NULL for nearly every delivery, and then it costs nothing.
ALTER TABLE delivery ADD COLUMN detail text;
