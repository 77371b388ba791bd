-- Combinations of a statement's facts -> one JSON object each.
-- Filled in: the columns that are as in `audit`, and those that are made of others.
SELECT to_json(struct_pack({fields}))::VARCHAR AS fact FROM given
