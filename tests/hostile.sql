-- Statements in the style of PostgreSQL's own regression tests, one to a paragraph. Each of them
-- runs on PostgreSQL 15 as it stands.

SELECT 1 AS one, 2 two, 3 "three", 4 AS "fo ""ur"""

SELECT f1.* FROM (SELECT 1 AS a) f1, LATERAL (SELECT f1.a + 1) f2(b)

SELECT +1, -1, - -1, -(-1), ~5, @ -5, |/ 25.0, ||/ 27.0, '5' !~~ '6', 2 ^ 3, 7 % 3, 91 & 15, 32 | 3, 17 # 5, 1 << 4, 8 >> 2

SELECT 1 === 1, 1 OPERATOR(hostile.===) 2, 3 OPERATOR(pg_catalog.+) 4

SELECT 'first line'
' - next line'
	' - third line' AS "Three lines to one"

SELECT U&'d\0061t\+000061' AS U&"d\0061t\+000061", U&'d!0061t\+000061' UESCAPE '!' AS U&"d*0061t\+000061" UESCAPE '*'

SELECT U&' \' UESCAPE '!' AS "tricky", 'tricky' AS U&"\" UESCAPE '!'

SELECT E'\x41\102\u0043\U00000044\t\n\\\'', 'it''s', E'it\'s', E'', ''

SELECT B'101', X'1F', B'10' || B'11', X'a'::bit(4), '1'::bit(3)

SELECT $$a'b"c$$, $tag$ $$ nested $$ $tag$, $Tag$x$tag$y$Tag$, $_1$z$_1$

SELECT N'national', bpchar 'x', "char" 'c', name 'n', text 'plain'

SELECT 1e10, 1E-5, .5, 5., 1.5e+3, 0.000001, 12345678901234567890123456789012345678901234567890, 'NaN'::numeric, '-infinity'::float8

SELECT 1::int, CAST(1 AS int), int4(1), '1'::int::text::varchar(10)::char(5), 1.5::numeric(10,2)::money

SELECT date '2026-01-01', time '12:00', timestamp '2026-01-01 12:00', timestamptz '2026-01-01 12:00+01', interval '1 day 2 hours', interval '1' year, interval '1-2' year to month, interval(3) '1.2345'

SELECT interval '1 day' * 2, date '2026-01-01' + 5, now() - interval '5 min', age(date '2000-01-01')

SELECT now() AT TIME ZONE 'UTC', timestamp '2026-01-01' AT TIME ZONE interval '-08:00', (now() AT TIME ZONE 'Europe/Berlin')::date

SELECT (date '2026-01-01', date '2026-02-01') OVERLAPS (date '2026-01-15', interval '30 days')

SELECT extract(epoch FROM now()), extract(isodow FROM date '2026-01-01'), date_part('year', now()), date_trunc('hour', now(), 'UTC')

SELECT CURRENT_DATE, CURRENT_TIME, CURRENT_TIME(3), CURRENT_TIMESTAMP, LOCALTIME, LOCALTIMESTAMP(2), CURRENT_USER, CURRENT_ROLE, SESSION_USER, USER, CURRENT_CATALOG, CURRENT_SCHEMA

SELECT substring('abcdef' FROM 2 FOR 3), substring('abcdef', 2), substring('abcdef' FOR 2), substring('abcdef' SIMILAR 'a#"%#"f' ESCAPE '#'), overlay('abcdef' PLACING 'zz' FROM 3 FOR 2), position('c' IN 'abc')

SELECT trim(' x '), trim(BOTH 'x' FROM 'xxaxx'), trim(LEADING FROM '  y'), trim(TRAILING 'z' FROM 'yzz'), btrim('xx', 'x')

SELECT 'abc' LIKE 'a%', 'abc' NOT LIKE '_b_' ESCAPE '#', 'abc' ILIKE 'A%', 'abc' SIMILAR TO '(a|b)%', 'abc' ~ '^a', 'abc' !~* 'B', 'a%c' LIKE 'a\%c'

SELECT 'abc' LIKE ANY (ARRAY['a%', 'b%']), 'abc' NOT ILIKE ALL (ARRAY['x%']), 'abc' ~~ 'a%', 'abc' ~~* 'A%', 'abc' ^@ 'a'

SELECT 1 IN (1, 2, 3), 1 NOT IN (SELECT a FROM edge), 1 = ANY (SELECT b FROM edge), 1 > ALL (ARRAY[0, -1]), 1 = SOME (ARRAY[1])

SELECT 1 BETWEEN 0 AND 2, 5 NOT BETWEEN SYMMETRIC 10 AND 1, NULL IS NULL, 1 ISNULL, 1 NOTNULL, true IS NOT FALSE, NULL IS UNKNOWN, 1 IS DISTINCT FROM NULL

SELECT ROW(1, 'a') = ROW(1, 'b'), (1, 2) < (1, 3), ROW(1, 2) IS DISTINCT FROM ROW(1, NULL), ROW(1, NULL) IS NULL, ROW()

SELECT CASE WHEN 1 < 2 THEN 'a' WHEN 3 > 4 THEN 'b' ELSE 'c' END, CASE 5 WHEN 1 THEN 'x' WHEN 5 THEN 'y' END, COALESCE(NULL, 1), NULLIF(1, 1), GREATEST(1, 2, 3), LEAST(1, NULL)

SELECT ARRAY[1, 2, 3], ARRAY[[1, 2], [3, 4]], '{1,2}'::int[], ARRAY[]::text[], ARRAY(SELECT a FROM edge ORDER BY 1), ARRAY[ARRAY[1], ARRAY[2]]

SELECT (ARRAY[1, 2, 3, 4])[2], (ARRAY[1, 2, 3, 4])[2:3], (ARRAY[1, 2, 3])[:2], (ARRAY[1, 2, 3])[2:], (ARRAY[[1, 2], [3, 4]])[1:2][2:2], ('{1,2,3}'::int[])[-1]

SELECT '[0:2]={1,2,3}'::int[], array_dims('[2:4][1:1]={{1},{2},{3}}'::int[]), ARRAY[1] || 2 || ARRAY[3, 4], ARRAY[1, 2] @> ARRAY[1], ARRAY[1] && ARRAY[2], ARRAY[1] <@ ARRAY[1, 2]

SELECT unnest(ARRAY[1, 2]), unnest(ARRAY['a', 'b']), generate_series(1, 3), generate_subscripts(ARRAY[7, 8], 1)

SELECT * FROM unnest(ARRAY[1, 2], ARRAY['a', 'b', 'c']) WITH ORDINALITY AS t(n, s, o)

SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['x', 'y'])) WITH ORDINALITY AS r(a, b, c)

SELECT * FROM ROWS FROM (json_to_record('{"a":1,"b":"x"}') AS (a int, b text), generate_series(1, 2)) AS x(p, q, s)

SELECT * FROM json_to_recordset('[{"a":1,"b":"foo"},{"a":2}]') AS x(a int, b text)

SELECT * FROM jsonb_populate_record(NULL::pair, '{"x": 1, "y": "z"}')

SELECT * FROM jsonb_each('{"a": 1}'), jsonb_array_elements_text('["x"]') WITH ORDINALITY e(v, n)

SELECT '{"a": {"b": [1, 2]}}'::jsonb -> 'a' -> 'b' -> 0, '{"a": 1}'::jsonb ->> 'a', '{"a": {"b": 1}}'::jsonb #> '{a,b}', '{"a": {"b": 1}}'::json #>> ARRAY['a', 'b']

SELECT '{"a": 1}'::jsonb ? 'a', '{"a": 1}'::jsonb ?| ARRAY['a', 'b'], '{"a": 1}'::jsonb ?& ARRAY['a'], '{"a": 1}'::jsonb @> '{"a": 1}', '{"a": 1, "b": 2}'::jsonb - 'a', '{"a": [1]}'::jsonb #- '{a,0}'

SELECT '{"a": [1, 2, 3]}'::jsonb @? '$.a[*] ? (@ > 2)', '{"a": 1}'::jsonb @@ '$.a == 1', jsonb_path_query_array('{"a": [1, 2]}', '$.a[*] ? (@ >= $min)', '{"min": 2}')

SELECT ('{"a": {"b": 1}}'::jsonb)['a']['b'], (doc['k'])[0] FROM person

SELECT json_build_object('a', 1, 'b', json_build_array(1, NULL, 'x')), jsonb_set('{"a": 1}', '{a}', '2', true), json_object('{a,1,b,2}'), to_jsonb(ROW(1, 'x')), row_to_json(person) FROM person

SELECT json_agg(p ORDER BY p.id), jsonb_object_agg(p.id, p.name), json_object_agg(id, name) FILTER (WHERE id > 0) FROM person p

SELECT xmlelement(name foo, xmlattributes(1 AS bar, 'x' AS "b z"), 'content', xmlelement(name inner)), xmlforest(1 AS a, 'b' AS c), xmlconcat('<a/>', '<b/>'), xmlpi(name php, 'echo "hello"'), xmlcomment('hi'), xmlroot(xmlparse(content 'x'), version '1.0', standalone yes), xmlserialize(content '<a/>' AS text)

SELECT xpath('/a/text()', '<a>b</a>'::xml), xmlexists('//b[text() = ''x'']' PASSING BY VALUE '<a><b>x</b></a>'), '<a/>' IS DOCUMENT

SELECT x.* FROM XMLTABLE('/rows/row' PASSING '<rows><row id="1"><n>x</n></row></rows>' COLUMNS id int PATH '@id', ordinality FOR ORDINALITY, n text PATH 'n' DEFAULT 'none') AS x

SELECT xmltable.* FROM (SELECT '<r><i>1</i></r>'::xml AS data) d, XMLTABLE('//i' PASSING data COLUMNS v int PATH '.')

WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t

WITH RECURSIVE walk(a, b, path) AS (SELECT a, b, ARRAY[a] FROM edge WHERE a = 1 UNION ALL SELECT e.a, e.b, path || e.a FROM edge e, walk w WHERE e.a = w.b AND NOT e.a = ANY (path)) SELECT * FROM walk

WITH RECURSIVE walk(a, b) AS (SELECT a, b FROM edge WHERE a = 1 UNION ALL SELECT e.a, e.b FROM edge e, walk w WHERE e.a = w.b) SEARCH DEPTH FIRST BY a, b SET seq CYCLE a, b SET is_cycle USING path SELECT * FROM walk ORDER BY seq

WITH RECURSIVE walk(a, b) AS (SELECT a, b FROM edge WHERE a = 1 UNION ALL SELECT e.a, e.b FROM edge e, walk w WHERE e.a = w.b) SEARCH BREADTH FIRST BY a SET seq SELECT * FROM walk LIMIT 5

WITH RECURSIVE walk(a, b) AS (SELECT a, b FROM edge UNION ALL SELECT e.a, e.b FROM edge e, walk w WHERE e.a = w.b) CYCLE a SET is_cycle TO 'Y' DEFAULT 'N' USING path SELECT a, is_cycle FROM walk WHERE is_cycle = 'N'

WITH RECURSIVE x(id) AS (SELECT 1 UNION SELECT id + 1 FROM x WHERE id < 3), y(id) AS (SELECT id FROM x UNION ALL SELECT id FROM x) SELECT * FROM y

WITH a AS MATERIALIZED (SELECT id FROM person), b AS NOT MATERIALIZED (SELECT id FROM a) SELECT * FROM b CROSS JOIN a

WITH outermost(x) AS (SELECT 1 UNION (WITH innermost AS (SELECT 2) SELECT * FROM innermost UNION SELECT 3)) SELECT * FROM outermost ORDER BY 1

WITH w AS (INSERT INTO visit (id, note) VALUES (10, 'x') RETURNING *), u AS (UPDATE edge SET label = 'q' WHERE a = 1 RETURNING a) SELECT * FROM w, u

WITH t AS (DELETE FROM visit WHERE id = 10 RETURNING id) INSERT INTO edge (a) SELECT id FROM t RETURNING a

SELECT (WITH cte(foo) AS (VALUES (id)) SELECT (SELECT foo FROM cte)) FROM person

SELECT * FROM (VALUES (1, 'one'), (2, 'two')) AS t(num, letter) JOIN (SELECT 1) AS s(num) USING (num)

SELECT * FROM (edge e JOIN visit v ON e.a = v.id) AS j

SELECT * FROM edge e JOIN edge f USING (a) AS merged

SELECT merged.a FROM edge e JOIN edge f USING (a, b) AS merged

SELECT * FROM edge NATURAL FULL OUTER JOIN (SELECT 1 AS a) q

SELECT * FROM person p LEFT JOIN visit v ON v.person_id = p.id LEFT JOIN LATERAL (SELECT count(*) FROM edge WHERE a = v.id) l(n) ON true

SELECT * FROM edge TABLESAMPLE SYSTEM (50) REPEATABLE (0), visit TABLESAMPLE BERNOULLI (10.5)

SELECT * FROM ONLY person, ONLY (visit)

SELECT * FROM measure * WHERE value > 0

SELECT * FROM "Weird ""Table""" WHERE "a.b" = 'x' AND "ünï" IS NULL

SELECT "Weird ""Table""".* FROM hostile."Weird ""Table"""

SELECT hostile.person.name, person.*, p2 FROM hostile.person, person p2

SELECT (composite.p).x, (p).y, (ps)[1].x, (ps[1]).y, ROW(1, 'a')::pair, (ROW(1, 'a')::pair).x, (ROW(1, 'b')::pair).* FROM composite

SELECT (pairs()).*, (pairs()).x, b.y FROM pairs() b

SELECT add(1), add(1, 2), add(a => 1, b => 2), add(1, b := 5), hostile.add(b => 3, a => 4)

SELECT format('%s %I', VARIADIC ARRAY['a', 'b']), concat_ws(',', 1, NULL, 'x')

SELECT * FROM people(1), LATERAL people(people.id) AS again

SELECT count(*), count(ALL person.id), count(DISTINCT name), sum(DISTINCT cost) FROM person, visit

SELECT string_agg(DISTINCT name, ',' ORDER BY name DESC NULLS LAST), array_agg(id ORDER BY born USING <) FROM person

SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id), percentile_cont(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY num::float8), mode() WITHIN GROUP (ORDER BY name), rank(5) WITHIN GROUP (ORDER BY id), dense_rank(1, 'x') WITHIN GROUP (ORDER BY id, name) FROM person

SELECT count(*) FILTER (WHERE id > 1), sum(cost) FILTER (WHERE note LIKE 'a%') OVER (PARTITION BY person_id) FROM visit GROUP BY cost, note, person_id

SELECT a, b, grouping(a, b), count(*) FROM edge GROUP BY GROUPING SETS ((a, b), (a), ()) ORDER BY 1, 2

SELECT a, b, count(*) FROM edge GROUP BY ROLLUP (a, (b, label)), CUBE (label)

SELECT a, sum(b) FROM edge GROUP BY DISTINCT GROUPING SETS (ROLLUP (a), CUBE (a)) HAVING sum(b) > 0

SELECT a, count(*) FROM edge GROUP BY ALL ROLLUP (a), ()

SELECT rank() OVER w, row_number() OVER (w ROWS UNBOUNDED PRECEDING), sum(b) OVER (PARTITION BY a ORDER BY b ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW), first_value(b) OVER (ORDER BY b RANGE BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE TIES), ntile(4) OVER () FROM edge WINDOW w AS (PARTITION BY label ORDER BY a)

SELECT nth_value(a, 2) OVER (ORDER BY a GROUPS BETWEEN CURRENT ROW AND 1 FOLLOWING EXCLUDE GROUP), lag(a, 1, 0) OVER (ORDER BY a), lead(a) OVER (ORDER BY a DESC NULLS FIRST) FROM edge

SELECT max(at) OVER (ORDER BY at RANGE BETWEEN '1 day'::interval PRECEDING AND '10 days' FOLLOWING) FROM visit

SELECT DISTINCT ON (a, b) a, b FROM edge ORDER BY a, b, label

SELECT DISTINCT a FROM edge LIMIT ALL

SELECT a FROM edge ORDER BY a USING >, b ASC NULLS FIRST OFFSET 1 ROW FETCH NEXT 2 ROWS ONLY

SELECT a FROM edge ORDER BY a FETCH FIRST ROW WITH TIES

SELECT a FROM edge OFFSET 1 LIMIT (SELECT 2)

SELECT a FROM edge LIMIT NULL OFFSET NULL

SELECT 1 UNION ALL SELECT 2 INTERSECT SELECT 2 EXCEPT ALL SELECT 3 ORDER BY 1

(SELECT 1 UNION SELECT 2) UNION ALL (SELECT 3 ORDER BY 1 LIMIT 1)

((SELECT 1)) UNION (((SELECT 2)))

(((SELECT a FROM edge)))

SELECT FROM person

SELECT

SELECT WHERE false

SELECT ALL

TABLE person

TABLE ONLY edge ORDER BY a LIMIT 1

VALUES (1, 'a'), (2, NULL), (3, lower('X'))

VALUES (1), (2) ORDER BY 1 DESC LIMIT 1

SELECT * FROM (TABLE edge) t, (VALUES (1)) v

SELECT a FROM edge WHERE a = 1 FOR UPDATE

SELECT a FROM edge e, person p FOR SHARE OF e NOWAIT FOR NO KEY UPDATE OF p SKIP LOCKED

SELECT a FROM edge FOR KEY SHARE SKIP LOCKED LIMIT 1

SELECT a FROM edge FOR READ ONLY

SELECT id INTO TEMP copied FROM person

SELECT 1 INTO UNLOGGED TABLE hostile.copied2

CREATE TEMP TABLE copy3 ON COMMIT DROP AS SELECT * FROM person

CREATE TABLE hostile.copy4 (n) WITH (fillfactor = 70) AS SELECT id FROM person WITH NO DATA

CREATE TABLE hostile.copy5 AS VALUES (1, 'x')

CREATE TABLE hostile.copy6 AS TABLE edge

CREATE MATERIALIZED VIEW hostile.mat AS SELECT a FROM edge WITH DATA

CREATE RECURSIVE VIEW hostile.rec (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM rec WHERE n < 3

CREATE VIEW hostile.checked AS SELECT * FROM edge WHERE a > 0 WITH LOCAL CHECK OPTION

INSERT INTO edge VALUES (10, 11, 'new'), (12, DEFAULT, NULL)

INSERT INTO edge DEFAULT VALUES

INSERT INTO edge (a, label) SELECT 5, 'five' WHERE NOT EXISTS (SELECT FROM edge WHERE a = 5)

INSERT INTO edge AS e (a) VALUES (1) RETURNING e.*, e.a + 1 AS next, (SELECT max(id) FROM person)

INSERT INTO person (id, name) VALUES (1, 'Bob') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name || person.name WHERE person.name <> EXCLUDED.name RETURNING *

INSERT INTO person (id, name) VALUES (2, 'Cat') ON CONFLICT DO NOTHING

INSERT INTO person AS p (id) VALUES (3) ON CONFLICT ON CONSTRAINT person_pkey DO UPDATE SET (name, mail) = (SELECT 'x', 'y')

INSERT INTO person (id, tags[1], doc['k']) VALUES (4, 'first', '1')

INSERT INTO composite (id, p.x, p.y, ps[1].x) VALUES (1, 2, 'three', 4)

INSERT INTO person (id, name) OVERRIDING USER VALUE SELECT 5000 + row_number() OVER (), label FROM edge

WITH new AS (SELECT 77 AS id) INSERT INTO person (id) TABLE new

INSERT INTO edge (SELECT a, b FROM edge)

INSERT INTO visit (id, at) VALUES ((SELECT max(id) FROM person), DEFAULT)

UPDATE edge SET a = a + 1, b = DEFAULT WHERE a > 100

UPDATE edge AS e SET (a, b) = (e.b, e.a) WHERE e.label IS NULL

UPDATE edge SET (a, b) = ROW(1, 2) WHERE false

UPDATE edge SET (a, label) = (SELECT id::int, name FROM person ORDER BY id LIMIT 1) WHERE a = -1

UPDATE edge * SET label = 'z' WHERE false

UPDATE person SET tags[2] = 'q', doc['k'][0] = '5', tags[1:2] = ARRAY['m', 'n'] WHERE id = 1

UPDATE composite SET p.x = 5, ps[1].y = 'w' WHERE id = 1

UPDATE visit v SET note = p.name FROM person p LEFT JOIN edge e ON e.a = p.id WHERE v.person_id = p.id RETURNING v.*, p.name

UPDATE person SET name = (SELECT label FROM edge WHERE edge.a = person.id LIMIT 1) WHERE EXISTS (SELECT FROM edge WHERE a = id)

WITH x AS (SELECT 1 AS id) UPDATE person SET name = 'w' FROM x WHERE x.id = person.id

DELETE FROM edge WHERE a > 1000

DELETE FROM ONLY edge AS e USING person p, visit v WHERE e.a = p.id AND v.id = p.id RETURNING e.a, p.*

DELETE FROM edge WHERE (a, b) IN (SELECT 100, 200)

DELETE FROM edge USING LATERAL (SELECT id FROM person WHERE id = -1) q WHERE a = q.id

WITH gone AS (SELECT 999 AS a) DELETE FROM edge USING gone WHERE edge.a = gone.a

MERGE INTO edge t USING (VALUES (1, 'm')) s(a, label) ON t.a = s.a WHEN MATCHED AND s.label <> t.label THEN UPDATE SET label = s.label WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (a, label) VALUES (s.a, s.label)

MERGE INTO person AS t USING visit AS s ON s.person_id = t.id WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED AND s.id < 0 THEN INSERT DEFAULT VALUES

WITH s AS (SELECT 500::bigint AS id) MERGE INTO ONLY person p USING s ON p.id = s.id WHEN NOT MATCHED THEN INSERT (id, name) OVERRIDING SYSTEM VALUE VALUES (s.id, 'm') WHEN MATCHED THEN UPDATE SET (name, mail) = ('a', 'b')

MERGE INTO measure m USING (SELECT date '2026-05-05' AS at) s ON m.at = s.at WHEN NOT MATCHED THEN INSERT VALUES (s.at, 1)

TRUNCATE visit, edge RESTART IDENTITY CASCADE

TRUNCATE TABLE ONLY edge CONTINUE IDENTITY RESTRICT

COPY (SELECT 1, 'x') TO STDOUT

COPY person (id, name) TO STDOUT (FORMAT csv, HEADER true, QUOTE '"', FORCE_QUOTE (name))

COPY BINARY edge TO STDOUT

COPY edge TO STDOUT WITH CSV HEADER DELIMITER AS ';' NULL AS '\N'

COPY (INSERT INTO edge (a) VALUES (9) RETURNING a) TO STDOUT

COPY (TABLE edge) TO STDOUT

COPY (WITH x AS (SELECT 1) SELECT * FROM x) TO STDOUT WITH (FORMAT text, ENCODING 'UTF8')

EXPLAIN SELECT * FROM person WHERE id = 1

EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT yaml) SELECT * FROM edge

EXPLAIN ANALYZE VERBOSE INSERT INTO edge (a) VALUES (1)

EXPLAIN (VERBOSE) WITH x AS (SELECT 1) SELECT * FROM x

EXPLAIN (ANALYZE) CREATE TABLE hostile.explained AS SELECT 1 AS a

DECLARE c1 CURSOR FOR SELECT * FROM person

DECLARE "C 2" BINARY INSENSITIVE SCROLL CURSOR WITHOUT HOLD FOR SELECT id FROM person ORDER BY id

DECLARE c3 ASENSITIVE NO SCROLL CURSOR FOR VALUES (1), (2)

DECLARE c4 CURSOR FOR SELECT * FROM edge FOR UPDATE

FETCH FORWARD 1 FROM c4

UPDATE edge SET label = 'current' WHERE CURRENT OF c4

DELETE FROM edge WHERE CURRENT OF c4

PREPARE q1 AS SELECT * FROM person WHERE id = $1

EXECUTE q1(1)

PREPARE q2(int, text) AS INSERT INTO edge (a, label) VALUES ($1, $2) RETURNING *

EXECUTE q2(7, 'seven')

PREPARE q3 AS SELECT 1

CREATE TABLE hostile.executed AS EXECUTE q3

EXPLAIN EXECUTE q1(5)

CALL hostile.forget(99)

CALL forget(wanted => 98)

DO $do$ BEGIN PERFORM 1 FROM hostile.person WHERE id = 5; END $do$

DO LANGUAGE plpgsql 'DECLARE n int; BEGIN SELECT count(*) INTO n FROM hostile.person; FOR i IN 1..2 LOOP n := n + i; END LOOP; END'

SELECT p.name FROM person AS p WHERE p.id IN (SELECT v.person_id FROM visit v WHERE v.at > now() - interval '1 year' GROUP BY v.person_id HAVING count(*) > 0)

SELECT EXISTS (SELECT 1 FROM person WHERE name = 'x'), NOT EXISTS (TABLE edge), (SELECT count(*) FROM visit) > 0

SELECT (SELECT (SELECT (SELECT (SELECT 1))))

SELECT ((((((((((1))))))))))

SELECT x FROM (SELECT * FROM (SELECT * FROM (SELECT * FROM (SELECT 1 AS x) a) b) c) d

SELECT NOT NOT NOT true, - - - 1, NOT (NOT (true))

SELECT '(1,2)'::point <-> '(3,4)'::point, box '(0,0),(1,1)' @> point '(0.5,0.5)', circle '((0,0),1)' && circle '((1,1),1)', lseg '[(0,0),(1,1)]' ?# lseg '[(0,1),(1,0)]', point '(1,1)' <^ point '(0,2)', @@ circle '((1,1),2)', ?- lseg '[(0,0),(1,0)]', point '(0,0)' ~= point '(0,0)', # path '((1,0),(0,1))'

SELECT int4range(1, 5) @> 3, int4range(1, 5) && int4range(4, 6), int4range(1, 3) -|- int4range(3, 5), '[1,5)'::int4range * '[2,3]', int4range(1, 5) << int4range(6, 7), numrange(1.0, NULL, '(]'), isempty('empty'::int4range), int4multirange(int4range(1, 2), int4range(5, 6)), '{[1,3),[5,9]}'::int4multirange + '{[3,5)}'::int4multirange

SELECT id FROM person WHERE span @> 5 AND NOT span &< int4range(1, 2) OR upper(span) > 3

SELECT inet '10.0.0.1/8' << inet '10.0.0.0/8', inet '10.0.0.1' <<= cidr '10/8', ~ inet '10.0.0.1', inet '10.0.0.1' + 5, host(inet '::1'), macaddr '08:00:2b:01:02:03'

SELECT to_tsvector('english', 'a fat cat') @@ to_tsquery('fat & cat'), 'fat:2A,4'::tsvector || 'cat:3'::tsvector, to_tsquery('a') && to_tsquery('b'), !! to_tsquery('x'), phraseto_tsquery('fat cat') <-> to_tsquery('rat'), ts_headline('the cat', 'cat'::tsquery)

SELECT money '12.34', '$1,000.00'::money, bytea '\xDEADBEEF', '\x00'::bytea || E'\\001'::bytea, decode('YQ==', 'base64'), uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}'::uuid, oid '5', 'person'::regclass, 'add(int,int)'::regprocedure, pg_typeof(1)

SELECT 'a' COLLATE "C" < 'B' COLLATE "C", name COLLATE pg_catalog."default" FROM person ORDER BY name COLLATE "C" DESC

SELECT nextval('counter'), currval('hostile.counter'::regclass), setval('counter', 10, false), lastval()

SELECT total(a), total(DISTINCT a), hostile.total(b) FROM edge

SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(person)$' COLLATE pg_catalog.default AND c.relkind IN ('r', 'v')

SELECT ctid, xmin, tableoid::regclass, cmax FROM person WHERE ctid = '(0,1)'

SELECT person FROM person WHERE person IS NOT NULL

SELECT person.name FROM person WHERE person = ROW(1, 'Ann', '1990-01-01', NULL, '{a,b}', '{"k": [1, 2]}', NULL, NULL, NULL, NULL, NULL, NULL)::person

SELECT name(person) FROM person

SELECT p.* IS NULL, COUNT(p.*), COUNT(p) FROM edge p GROUP BY p.*

SELECT a AS "SELECT", b AS from_, label AS "label -- not a comment" FROM edge /* a ' quote in a comment */

SELECT /* /* nested */ still */ 1 -- end
 + 2 -- another

SELECT 1 -- trailing comment with "quotes' and $tag$

SELECT 'text -- with dashes', "a" /* x */ FROM edge

--leading
/* block */ SELECT 1

SELECT 1;

SELECT 1; ;

;

SELECT 1;SELECT 2;

SELECT a FROM edge; UPDATE edge SET label = 'multi' WHERE a = 1; SELECT b FROM edge

SELECT'adjacent'AS"name"FROM"edge"WHERE"a"=1

SELECT a FROM edge WHERE a='1'AND b='2'OR(a)IN('3')

SELECT a FROM edge WHERE a IN(1,2)AND(b)=(3)OR NOT(label='x')

select	a
	from	edge
where	a
=
1

SeLeCt A fRoM eDgE wHeRe LaBeL = 'MiXeD'

SELECT 1 AS "üñí", 'Grüße 日本語 🦊' AS "имя", name AS größe FROM person

SELECT tàble.x FROM (SELECT 1 AS x) AS tàble

SELECT "a""b", 'it''s ''quoted''' FROM (SELECT 1 AS "a""b") q

SELECT a, CASE a WHEN 1 THEN 'one' END AS "case", label IS NULL AS "end" FROM edge

SELECT CASE WHEN a = 1 THEN CASE WHEN b = 2 THEN CASE WHEN label = 'x' THEN 'deep' END END END FROM edge

SELECT a FROM edge WHERE CASE WHEN a > 0 THEN true ELSE false END AND COALESCE(label, 'none') = 'x' AND NULLIF(b, 0) / 2 > 1

SELECT a FROM edge WHERE label = E'back\\slash' OR label = 'plain\' OR label LIKE E'%\\%%'

SELECT a FROM edge WHERE (((a = 1) OR (b = 2)) AND ((label = 'x') OR (label = 'y')))

SELECT a FROM edge WHERE a = 1 OR a = 2 OR a = 3 OR a = 4 OR a = 5 OR a = 6 OR a = 7 OR a = 8 OR a = 9 OR a = 10

SELECT a, b FROM edge WHERE (a, b) IN ((1, 2), (3, 4)) AND ROW(a, b) >= ROW(0, 0) AND (a, label) = (1, 'x')

SELECT a FROM edge WHERE label SIMILAR TO '%(b|d)%' ESCAPE '#' AND label !~~ 'z%' AND label ~>=~ 'a'

SELECT id FROM person WHERE name = 'x' AND born > date '1980-01-01' AND tags @> '{a}' AND doc @> '{"k": [1]}' AND bits = B'101' AND raw = '\x00' AND net << '10/8'

SELECT tags[1], tags[1:2], tags[array_length(tags, 1)], array_to_string(tags, ','), tags || 'c'::text FROM person WHERE 'a' = ANY (tags) AND tags[1] = 'a'

SELECT id, (SELECT jsonb_agg(t) FROM unnest(tags) AS t), doc -> 'k' ->> 0, doc #>> '{k,1}' FROM person WHERE doc ->> 'k' IS NOT NULL AND doc ? 'k' AND doc ?| '{k}'

SELECT p.id, v.n FROM person p CROSS JOIN LATERAL (SELECT count(*) n FROM visit WHERE person_id = p.id) v WHERE v.n >= 0 AND p.id = 1

SELECT g.i, p.name FROM generate_series(1, 3) AS g(i) LEFT JOIN person p ON p.id = g.i ORDER BY g.i

SELECT d::date FROM generate_series('2026-01-01'::timestamp, '2026-01-03', '1 day') d

SELECT * FROM json_to_record('{"a": 1}') AS x(a int)

SELECT current_setting('server_version_num')::int >= 150000, set_config('hostile.x', 'y', true), pg_backend_pid() > 0, version() LIKE 'Postgre%'

SELECT has_table_privilege('person', 'select'), pg_table_size('person'::regclass), obj_description('person'::regclass), col_description('person'::regclass, 1), pg_get_viewdef('grown'::regclass, true)

SELECT relname, reltuples::bigint, pg_size_pretty(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'hostile'::regnamespace ORDER BY 3 DESC

SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'hostile' ORDER BY 1, ordinal_position

SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'hostile.person'::regclass AND a.attnum > 0 AND NOT a.attisdropped

SELECT conname, pg_get_constraintdef(oid, true) FROM pg_constraint WHERE conrelid = 'hostile.person'::regclass AND contype = 'p'

SELECT n.nspname AS "Schema", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END AS "Type" FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', '') AND n.nspname !~ '^pg_toast'

SELECT pid, query, state FROM pg_stat_activity WHERE query ILIKE '%select%' AND pid <> pg_backend_pid()

SELECT * FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted

SELECT value FROM measure WHERE at BETWEEN '2026-01-01' AND '2026-12-31'

INSERT INTO measure VALUES ('2026-02-02', 5)

SELECT m.* FROM measure_1 m WHERE tableoid = 'measure_1'::regclass

SELECT width_bucket(5, 1, 10, 3), random() < 2, gen_random_uuid() IS NOT NULL, md5('x'), sha256('x'::bytea), to_char(now(), 'YYYY-MM-DD "at" HH24:MI'), to_number('1,234.5', '9G999D9'), lpad('x', 5, '*'), initcap('hello'), ascii('a'), chr(65), repeat('ab', 3), reverse('abc'), split_part('a,b', ',', 2), regexp_replace('abc', 'b', 'X', 'g'), regexp_matches('abc', '(b)(c)'), translate('abc', 'ab', 'xy'), quote_literal('it''s'), quote_ident('a b')

SELECT normalize('x', NFC), 'x' IS NORMALIZED, 'x' IS NOT NFD NORMALIZED, U&'\00C4' IS NFC NORMALIZED

SELECT text 'x' AS t, int '5' AS i, float8 '1.5' f, boolean 'yes' AS b, date 'today', timestamp 'epoch', numeric(5,2) '1.23', varchar(3) 'abc', character varying(5) 'x', double precision '1', time with time zone '12:00+01', timestamp(3) without time zone '2026-01-01'

SELECT CAST('5' AS smallint), CAST(ARRAY['1'] AS int[]), CAST(NULL AS pair), CAST('{"(1,a)"}' AS pair[]), '1'::double precision, 'x'::character varying, '{1}'::integer ARRAY, '{{1}}'::int ARRAY[3], 5::bit(8)

SELECT treat.x FROM (SELECT 1 AS x) AS treat(x)

SELECT collation_.y FROM (SELECT 'b' COLLATE "POSIX" AS y) collation_ ORDER BY y COLLATE "C"

SELECT 1 AS year, 2 AS value, 3 AS type, 4 AS name, 5 AS key, 6 AS data, 7 AS date, 8 AS text, 9 AS user_, 10 AS end_

SELECT year.month FROM (SELECT 1 AS month) year

SELECT e.a, e.b FROM edge e WHERE e.a = (SELECT min(a) FROM edge) AND e.b <= ALL (SELECT b FROM edge WHERE a = e.a)

SELECT sum(sum(cost)) OVER (ORDER BY person_id) FROM visit GROUP BY person_id

SELECT a, lag(b) OVER (PARTITION BY label ORDER BY a) - b AS d FROM edge ORDER BY d NULLS LAST LIMIT 3

SELECT a FROM edge GROUP BY 1 HAVING max(b) FILTER (WHERE label <> 'q') > 0 ORDER BY count(*) DESC

SELECT count(*) AS n FROM edge WHERE label = 'x' GROUP BY () HAVING true

SELECT a FROM edge e WHERE e IS DISTINCT FROM ROW(1, 2, 'x')::edge

SELECT e.label, e.a::text || '-' || e.b::text AS key FROM edge AS e(a, b, label) WHERE e.a || '' = '1'

SELECT hostile.edge.a FROM hostile.edge

SELECT * FROM edge e(x, y) WHERE x > 0 AND y IN (SELECT b FROM edge)

SELECT * FROM (SELECT a, b FROM edge) AS s (p, q) NATURAL JOIN (SELECT 1 AS p) AS t

SELECT * FROM person p, visit v, edge e WHERE p.id = v.person_id AND e.a = p.id AND e.b = v.id AND p.name = 'x' AND v.cost > 1.5

SELECT a FROM edge WHERE a = ANY ('{1,2,3}'::int[]) AND label = ANY (ARRAY['x', 'y']::text[]) AND b <> ALL (VALUES (100), (200))

SELECT a FROM edge WHERE a = ANY (ARRAY(SELECT id::int FROM person)) AND (a, b) = ANY (SELECT a, b FROM edge)

SELECT now()::date - 7, (now() - '1 week'::interval)::timestamp(0), date_trunc('day', now()) + '1 day'::interval - interval '1 second'

SELECT interval '1 day 2:03:04' DAY TO SECOND, interval '5' MINUTE, interval '1.5' SECOND(2), interval 'P1Y2M', '@ 1 minute ago'::interval, make_interval(days => 10)

SELECT timestamptz '2026-01-01 00:00:00 America/New_York', time '04:05:06.789-08', 'now'::timestamp::date = CURRENT_DATE, 'infinity'::timestamptz

SELECT pg_sleep(0), pg_sleep_for('0 seconds'), clock_timestamp() > statement_timestamp()

SELECT format('%1$s %2$L %%', 'a', 'b'), format('%-10s|', 'x'), concat('a', 1, true)

SELECT lo_creat(-1) > 0, txid_current() > 0, pg_current_wal_lsn() IS NOT NULL, '0/0'::pg_lsn + 16

SELECT string_to_array('a,b,,c', ',', ''), array_remove(ARRAY[1, 2, 1], 1), array_position(ARRAY['a', 'b'], 'b'), cardinality('{}'::int[]), array_fill(0, ARRAY[2, 3]), trim_array(ARRAY[1, 2, 3], 1)

SELECT percent_rank() OVER (ORDER BY a), cume_dist() OVER (ORDER BY a), last_value(a) OVER (ORDER BY a ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM edge

SELECT corr(a, b), regr_slope(a, b), stddev_samp(a), var_pop(b), bit_and(a), bool_or(a > 1), every(b > 0), covar_pop(a, b), range_agg(int4range(a, a + 1)) FROM edge

SELECT JSON_BUILD_OBJECT(VARIADIC ARRAY['a', '1']), jsonb_pretty('{"a":1}'), jsonb_strip_nulls('{"a":null}'), json_typeof('[]'), jsonb_insert('[1]', '{0}', '0'), '[1,2]'::jsonb || '3', '"x"'::jsonb #>> '{}'

SELECT oid, 'int8'::regtype IS NULL FROM pg_type WHERE typname = 'int4' AND typelem = 0 AND 'int4'::regtype = oid

CREATE TEMP TABLE scratch (id serial PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> ''), g int GENERATED ALWAYS AS (length(v)) STORED, UNIQUE NULLS NOT DISTINCT (v), EXCLUDE USING gist (int4range(id, id, '[]') WITH &&)) WITH (autovacuum_enabled = off)

CREATE INDEX ON visit USING btree ((id + person_id) DESC NULLS LAST, lower(note) COLLATE "C" text_pattern_ops) INCLUDE (cost) WHERE id > 0

ALTER TABLE visit ADD COLUMN extra int DEFAULT 5, ALTER COLUMN note TYPE varchar(50) USING note::varchar(50), ADD CONSTRAINT positive CHECK (id > -100) NOT VALID

CREATE STATISTICS hostile.st (dependencies) ON a, b FROM edge

COMMENT ON TABLE person IS 'people, "quoted" and it''s fine'

GRANT SELECT (id, name), UPDATE (name) ON person TO staff

CREATE TYPE hostile.mood AS ENUM ('sad', 'ok', 'it''s')

CREATE DOMAIN hostile.posint AS int CHECK (VALUE > 0)

CREATE FUNCTION hostile.plus(a int) RETURNS int LANGUAGE sql IMMUTABLE RETURN a + 1

CREATE FUNCTION hostile.atomic(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a + 1; END

CREATE FUNCTION hostile.rows() RETURNS TABLE (x int, y text) LANGUAGE plpgsql AS $fn$ BEGIN RETURN QUERY SELECT 1, 'x'::text; EXECUTE 'SELECT $1' USING 5; END $fn$

SELECT * FROM hostile.rows() AS r WHERE r.x = 1

CREATE TRIGGER audit_edge BEFORE UPDATE OF label ON edge FOR EACH ROW WHEN (OLD.label IS DISTINCT FROM NEW.label) EXECUTE FUNCTION suppress_redundant_updates_trigger()

CREATE RULE quiet AS ON DELETE TO composite WHERE OLD.id = 1 DO INSTEAD NOTHING

CREATE POLICY mine ON person FOR SELECT TO PUBLIC USING (name = CURRENT_USER)

SELECT setseed(0.5), random(), power(2, 0.5)::numeric(10, 4), round(1.2345, 2), trunc(-1.5), ceil(1.1), div(7, 2), mod(-7, 3), sign(-2), pi(), factorial(5), gcd(12, 8), 5 / 2.0

SELECT 'x'::text = 'y'::text, 'x' <> 'y', 'x' != 'y', 1 <= 2, 2 >= 1, NOT 1 = 2, 1 < 2 AND 2 < 3 OR false

SELECT 5 - -3, 5*-3, 2-1, 2 -1, a-1, a -1, a- -1 FROM edge

SELECT a[1] FROM (SELECT ARRAY[a, b] AS a FROM edge) s WHERE a[1] = 1 AND a[2:] <> '{}' AND a[1:1][1] IS NULL

SELECT (SELECT a FROM edge WHERE label = 'x' LIMIT 1) + (SELECT b FROM edge WHERE label = 'y' LIMIT 1) AS total

SELECT min(x) FROM (SELECT a AS x FROM edge UNION ALL SELECT b FROM edge UNION ALL (SELECT id::int FROM person LIMIT 1)) u WHERE x BETWEEN 0 AND 10

SELECT CASE WHEN EXISTS (SELECT FROM edge WHERE a = 1) THEN (SELECT name FROM person WHERE id = 1) ELSE 'nobody' END

SELECT array_agg(DISTINCT a ORDER BY a DESC) FILTER (WHERE a IS NOT NULL) AS list FROM edge WHERE label IN ('x', 'y', 'z')

SELECT label, string_agg(a::text, E'\n' ORDER BY a) FROM edge GROUP BY label

SELECT row_number() OVER (), * FROM edge

SELECT *, a + b AS sum FROM edge WHERE a + b > 2

SELECT edge.*, person.name FROM edge, person WHERE edge.a = person.id AND person.name <> ''

SELECT DISTINCT (a, b) FROM edge

SELECT t.*, s.* FROM (SELECT 1 AS a) t FULL JOIN (SELECT 2 AS a) s ON t.a = s.a AND s.a > 0

SELECT * FROM visit WHERE at >= '2026-01-01'::date AND at < ('2026-01-01'::date + '1 mon'::interval) AND note NOT IN ('a', 'b') AND cost::int % 2 = 0

SELECT v.id FROM visit v WHERE (v.note, v.cost) IS NOT NULL AND v.note = v.note COLLATE "C"

SELECT 1 WHERE 1 = ANY (NULL::int[]) OR NULL = NULL OR ROW(1, NULL) = ROW(1, 2)

SELECT U&"\0061" FROM edge

SELECT "edge"."a" FROM "hostile"."edge" "edge" WHERE ("edge"."label" = 'x' AND 1=1) OFFSET 0

SELECT COUNT(*) AS "__count" FROM (SELECT DISTINCT "edge"."a" AS "col1" FROM "edge") subquery

SELECT e1_0.a, e1_0.b FROM edge e1_0 WHERE e1_0.label LIKE '%x%' ESCAPE '' FETCH FIRST 10 ROWS ONLY

SELECT 1 AS one FROM "edge" WHERE "edge"."label" = 'x' LIMIT 1
