-- Who was behind which client of which pool, and behind which direct connection, and when.
-- Reads: clocks (one row: by how much they may differ), numbered_pools (pool, database, db_role: numbers given before), identities, drifts, pooler_clients, strangers, unheard, server_links, role_actors. Writes: pools, clients, unannounced, drifted.
-- `pool` is NULL for an endpoint that is no pooler client: it counts for unpooled sessions only.

-- A pool is (database, role towards PostgreSQL). Where the log shows no server connection of a
-- database at all, the clients' own login names stand for the roles.
CREATE OR REPLACE TEMP TABLE pools AS
WITH present AS (
  SELECT DISTINCT database, db_role FROM server_links
  UNION
  SELECT DISTINCT database, db_role FROM pooler_clients
  WHERE database NOT IN (SELECT database FROM server_links)
)
SELECT coalesce(n.pool, (SELECT count(*) FROM numbered_pools)
                        + row_number() OVER (PARTITION BY n.pool IS NULL ORDER BY database, db_role) - 1) AS pool,
       database, db_role
FROM present LEFT JOIN numbered_pools n USING (database, db_role);

-- A client is served by the pool of its own login name, or, where the pooler opens no server
-- connection of that name, by the one role that the database's entry forces.
CREATE OR REPLACE TEMP TABLE served_by AS
SELECT w.database, w.db_role, p.pool
FROM (SELECT database, db_role FROM pooler_clients
      UNION SELECT database, db_role FROM identities
      UNION SELECT database, db_role FROM strangers WHERE database IS NOT NULL
      UNION SELECT database, db_role FROM drifts) w
JOIN pools p
  ON p.database = w.database
 AND (p.db_role = w.db_role
      OR NOT EXISTS (SELECT 1 FROM pools o
                     WHERE o.database = w.database AND o.db_role = w.db_role));

CREATE OR REPLACE TEMP TABLE clients AS
WITH named AS (
  SELECT c.seq AS pooler_seq, c.client_addr, c.client_port, c.database, c.db_role,
         i.seq AS identity_seq, i.application_name,
         c.since AS connected,
         greatest(c.since, i.since) AS since, least(c.until, i.pooled_until) AS until,
         i.actor, i.email, i.actor_kind, i.on_behalf_of, i.peer_addr, i.peer_port, i.authn,
         i.tag, i.open_seq
  FROM clocks CROSS JOIN pooler_clients c
  JOIN identities i
    ON i.client_addr = c.client_addr AND i.client_port = c.client_port
   AND i.since <= c.until + skew AND c.since <= coalesce(i.pooled_until + skew, c.since)
   -- `open` is written before the pooler sees the connection. One that is older than what the pooler
   -- said last of another at this endpoint spoke of that one; so may one of the same millisecond.
   AND date_trunc('millisecond', i.opened) <= c.since + skew
   AND (c.taken_until IS NULL OR c.taken_until < date_trunc('millisecond', i.opened) - skew)
   -- Where clocks differ it may have spoken of one who came after this one; a minute after it, of none.
   AND (c.next_taken IS NULL OR c.next_taken > i.opened + skew + INTERVAL 1 MINUTE
        OR skew = INTERVAL 0 SECONDS)
   AND coalesce(i.database = c.database, true) AND coalesce(i.db_role = c.db_role, true)
  WHERE NOT c.failed AND NOT (i.tag IS NOT NULL AND c.client_addr LIKE 'unix%')
), all_clients AS (
  SELECT * FROM named
  UNION ALL BY NAME
  -- Through a unix socket all connections of a sidecar have one endpoint; its tags tell them apart.
  SELECT i.client_addr, i.client_port, i.database, i.db_role, i.seq AS identity_seq,
         i.application_name, date_trunc('millisecond', i.opened) AS connected,
         i.since, least(i.until, (SELECT until FROM coverage)) AS until,
         i.actor, i.email, i.actor_kind, i.on_behalf_of, i.peer_addr, i.peer_port, i.authn,
         i.tag, i.open_seq
  FROM identities i
  WHERE i.tag IS NOT NULL AND i.client_addr LIKE 'unix%'
    AND EXISTS (SELECT 1 FROM pooler_clients c
                WHERE c.client_addr = i.client_addr AND c.client_port = i.client_port
                  AND c.since <= i.until AND c.until >= i.since)
  UNION ALL BY NAME
  SELECT c.seq AS pooler_seq, c.client_addr, c.client_port, c.database, c.db_role,
         c.since AS connected, c.since, c.lasting AS until
  FROM pooler_clients c
  WHERE NOT c.failed AND c.seq NOT IN (SELECT pooler_seq FROM named)
    AND NOT (c.client_addr LIKE 'unix%'
             AND EXISTS (SELECT 1 FROM identities i
                         WHERE i.tag IS NOT NULL AND i.client_addr = c.client_addr
                           AND i.client_port = c.client_port
                           AND i.since <= c.until AND c.since <= i.until))
  UNION ALL BY NAME
  -- What the sidecar said ended before the connection did, or before its next word: somebody is
  -- there, unidentified.
  SELECT c.seq AS pooler_seq, c.client_addr, c.client_port, c.database, c.db_role,
         c.since AS connected, n.named_until + INTERVAL 1 MICROSECOND AS since,
         coalesce(n.next_since - INTERVAL 1 MICROSECOND, c.lasting) AS until
  FROM pooler_clients c
  JOIN (SELECT pooler_seq, max(until) OVER w AS named_until, lead(since) OVER w AS next_since
        FROM named
        WINDOW w AS (PARTITION BY pooler_seq ORDER BY since, until, identity_seq
                     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) n
    ON n.pooler_seq = c.seq
   AND n.named_until < coalesce(n.next_since - INTERVAL 1 MICROSECOND, c.lasting)
  UNION ALL BY NAME
  SELECT c.seq AS pooler_seq, c.client_addr, c.client_port, c.database, c.db_role,
         c.since AS connected, c.since, n.named_since - INTERVAL 1 MICROSECOND AS until
  FROM pooler_clients c
  JOIN (SELECT pooler_seq, min(since) AS named_since FROM named GROUP BY pooler_seq) n
    ON n.pooler_seq = c.seq AND n.named_since > c.since
), with_roles AS (
  SELECT a.* EXCLUDE (actor, authn),
         coalesce(a.actor, r.actor) AS actor,
         CASE WHEN a.actor IS NULL AND r.actor IS NOT NULL THEN 'role' ELSE a.authn END AS authn,
         a.actor IS NOT NULL AND r.actor IS NOT NULL AND a.actor <> r.actor AS contradicted,
         a.actor IS NULL AND r.actor IS NOT NULL AS by_role
  FROM all_clients a LEFT JOIN role_actors r ON r.role = a.db_role
), everyone AS (
SELECT p.pool, w.*
FROM with_roles w
JOIN served_by p ON p.database = w.database AND p.db_role = w.db_role
UNION ALL BY NAME
-- An endpoint that the pooler saw is the pooler's client: whoever comes to PostgreSQL itself from
-- the same port of the same host at that time is somebody else.
SELECT NULL AS pool, i.opened, i.client_addr, i.client_port, i.database, i.db_role, i.seq AS identity_seq,
       i.application_name, i.since, i.until, i.actor, i.email, i.actor_kind, i.on_behalf_of,
       i.peer_addr, i.peer_port, i.authn, i.tag, i.open_seq, false AS contradicted, false AS by_role
FROM identities i
WHERE NOT EXISTS (SELECT 1 FROM pooler_clients c
                  WHERE c.client_addr = i.client_addr AND c.client_port = i.client_port
                    AND c.since <= i.until AND c.until >= i.since)
  AND NOT EXISTS (SELECT 1 FROM strangers c
                  WHERE c.client_addr = i.client_addr AND c.client_port = i.client_port
                    AND c.since <= i.until AND c.until >= i.since)
UNION ALL BY NAME
SELECT p.pool, s.seq AS pooler_seq, s.client_addr, s.client_port, s.database, s.db_role,
       s.since AS connected, s.since, s.until, false AS contradicted, false AS by_role
FROM strangers s
-- Where its lines don't say of which pool it is, it may be of any.
JOIN (SELECT pool, database, db_role FROM served_by
      UNION ALL SELECT pool, NULL, NULL FROM pools) p
  ON p.database IS NOT DISTINCT FROM s.database AND p.db_role IS NOT DISTINCT FROM s.db_role
UNION ALL BY NAME
SELECT p.pool, u.since AS connected, u.since, u.until, false AS contradicted, false AS by_role
FROM unheard u, pools p
)
-- The clocks of those who wrote this and of the server may differ.
SELECT row_number() OVER (ORDER BY since, pooler_seq, identity_seq, pool) - 1 AS client,
       * EXCLUDE (skew) REPLACE (since - skew AS since, until + skew AS until,
                                 connected - skew AS connected, opened - skew AS opened)
FROM (SELECT e.*, t.since AS there_since, t.until AS there_until
      FROM everyone e
      LEFT JOIN (SELECT seq, since, until FROM pooler_clients
                 UNION ALL SELECT seq, since, until FROM strangers) t ON t.seq = e.pooler_seq)
CROSS JOIN clocks;

-- When a pool wasn't closed: it had a client that no sidecar tags, or one whose name wasn't the
-- sidecar's.
CREATE OR REPLACE TEMP TABLE unannounced AS
SELECT pool, since, until FROM clients WHERE pool IS NOT NULL AND tag IS NULL;

CREATE OR REPLACE TEMP TABLE drifted AS
SELECT p.pool, d.since - skew AS since, d.until + skew AS until, d.tail + skew AS tail
FROM clocks CROSS JOIN drifts d JOIN served_by p ON p.database = d.database AND p.db_role = d.db_role;
