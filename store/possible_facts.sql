-- The rows of possible.sql, by digests: statements that may have shown the subject, by the people
-- asked for. Statements and people that a reader doesn't tell apart have one number.
-- Filled in: conditions on statements, on people, on rows; which columns tell statements and people apart.
WITH possible_statements AS MATERIALIZED (
    SELECT code, {names}min(code) OVER (PARTITION BY {by_statement}) AS "statement"
    FROM {asked} WHERE {statements}
), asked_people AS MATERIALIZED (
    SELECT code, min(code) OVER (PARTITION BY {by_person}) AS person
    FROM people WHERE {people}
)
SELECT s."statement", p.person, f.log_time, f.rows_returned, f.place
FROM facts f
JOIN possible_statements s ON s.code = f."statement"{same_names}
JOIN asked_people p ON p.code = f.person
WHERE {rows} AND f.place NOT IN (SELECT place FROM direct_places)
