-- The same as meanings.sql where one numbering tells each fact once, and no other rows are there.
SELECT code, unnest(from_json(fact, '{members}')) FROM ({told})
