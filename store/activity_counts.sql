-- How many statements there are of each kind; a statement that is of several counts for each.
SELECT name, count(DISTINCT (origin, statement)) AS times
FROM (SELECT {name} AS name, origin, statement FROM asked_rows)
WHERE name IS NOT NULL
GROUP BY 1
ORDER BY 2 DESC, 1
