-- Scratch objects for tests/hostile.sql, all in one schema.
CREATE SCHEMA hostile;
SET search_path = hostile, public;
CREATE TABLE hostile.person (id bigint PRIMARY KEY, name text, born date, mail text, tags text[], doc jsonb,
                     spot point, span int4range, bits bit(3), raw bytea, net inet, num numeric);
CREATE TABLE hostile.visit (id bigint, person_id bigint, at timestamptz DEFAULT now(), note text, cost numeric);
CREATE TABLE hostile.edge (a int, b int, label text);
CREATE TABLE hostile."Weird ""Table""" ("Select" int, "a.b" text, "ünï" text);
CREATE TABLE hostile.measure (at date NOT NULL, value int) PARTITION BY RANGE (at);
CREATE TABLE hostile.measure_1 PARTITION OF hostile.measure FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TYPE hostile.pair AS (x int, y text);
CREATE TABLE hostile.composite (id int, p hostile.pair, ps hostile.pair[]);
CREATE VIEW hostile.grown AS SELECT id, name FROM hostile.person WHERE born < '2008-01-01';
CREATE SEQUENCE hostile.counter;
CREATE FUNCTION hostile.add(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a + b';
CREATE FUNCTION hostile.people(wanted bigint) RETURNS SETOF hostile.person LANGUAGE sql AS
    'SELECT * FROM hostile.person WHERE id = wanted';
CREATE FUNCTION hostile.pairs(OUT x int, OUT y text) LANGUAGE sql AS $$ SELECT 1, 'y' $$;
CREATE PROCEDURE hostile.forget(wanted bigint) LANGUAGE sql AS 'DELETE FROM hostile.visit WHERE person_id = wanted';
CREATE OPERATOR hostile.=== (leftarg = int, rightarg = int, procedure = int4eq);
CREATE AGGREGATE hostile.total(int) (sfunc = int4pl, stype = int, initcond = '0');
INSERT INTO hostile.person (id, name, born, tags, doc) VALUES (1, 'Ann', '1990-01-01', '{a,b}', '{"k": [1, 2]}');
INSERT INTO hostile.edge VALUES (1, 2, 'x'), (2, 3, 'y'), (3, 1, 'z');
