-- What the numbers of facts stand for: `code`, and the members of the fact. Facts that several
-- numberings tell are taken apart once.
-- Filled in: `code` and `fact` of the digests; the types of the members. `more_meanings`: of rows that
-- no digest tells of, numbered after those.
WITH told AS (
    {told}
), everything AS (
    FROM told
    UNION ALL
    SELECT code + (SELECT count(*) FROM told)::INTEGER, fact FROM more_meanings
), apart AS (
    SELECT fact, list(code) AS codes FROM everything GROUP BY fact
)
SELECT unnest(codes) AS code, unnest(from_json(fact, '{members}')) FROM apart
