-- Of the events known so far, those that statements to come can depend on, and rows that stand for the
-- rest where its numbering or its silence matters.
-- Reads: events (columns of EVIDENCE), silent (seq: events that end a silence of the pooler's log), passed_pairs
-- (passed_pairs.sql), horizon (one row, `at`: no statement to come began before). Writes: present (seq), elapsed (columns of EVIDENCE that say anything).

CREATE OR REPLACE TEMP TABLE told AS
SELECT seq, event, ts, sidecar, connection, sidecar_seq,
       last_of(event, sidecar_seq, detail) AS last_of, heartbeat_s(event, detail) AS heartbeat_s,
       ts < horizon."at" AS passed,
       count(CASE WHEN event = 'start' THEN 1 END) OVER (PARTITION BY sidecar ORDER BY ts, sidecar_seq) AS life
FROM events, horizon WHERE source = 'identity';

-- Whose life is over: what was said in it holds no longer. Silence alone doesn't say so, unless it lasts for a
-- day longer than what was said holds: events may be late.
CREATE OR REPLACE TEMP TABLE lives AS
SELECT sidecar, life,
       coalesce(lead(min(ts)) OVER (PARTITION BY sidecar ORDER BY life) < (SELECT "at" FROM horizon), false)
         OR bool_or(event = 'stop' AND passed)
         OR max(ts) + to_seconds(3 * coalesce(max(heartbeat_s), 10)) < (SELECT "at" - INTERVAL 1 DAY FROM horizon) AS over
FROM told GROUP BY sidecar, life;

-- Connections that are open, and the last word of each.
CREATE OR REPLACE TEMP TABLE open_connections AS
SELECT sidecar, life, connection, max(sidecar_seq) FILTER (event IN ('open', 'identify') AND passed) AS last_word
FROM told JOIN lives USING (sidecar, life)
WHERE connection IS NOT NULL AND NOT over
GROUP BY ALL
HAVING coalesce(max(sidecar_seq) FILTER (event = 'open')
                > max(sidecar_seq) FILTER (event = 'close' AND passed), true);

CREATE OR REPLACE TEMP TABLE lines AS
SELECT seq, event, ts, sidecar AS process, connection, client_addr, client_port, detail, ts < horizon."at" AS passed,
       CASE WHEN client_addr LIKE 'unix%' THEN sidecar || ' ' || connection ELSE '' END AS socket
FROM events, horizon WHERE source = 'pgbouncer';

-- What can be said of a client's connection; `next_…` is the first that ends it for sure.
CREATE OR REPLACE TEMP TABLE mentioned AS
SELECT *,
       lag(seq) OVER place AS before_here, lag(seq) OVER thing AS before_there,
       count(CASE WHEN event = 'client-login' THEN 1 END) OVER thing AS stay,
       row_number() OVER (PARTITION BY process, connection, client_addr, client_port ORDER BY ts, seq) = 1 AS first_here,
       max(CASE WHEN passed THEN seq END) OVER (PARTITION BY process, connection, client_addr, client_port) = seq AS last_here,
       max(CASE WHEN passed AND event IN ('client-login', 'client-close') THEN struct_pack(ts, seq) END)
         OVER (thing ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS ended_there,
       max(CASE WHEN passed AND event = 'client-login' THEN struct_pack(ts, seq) END)
         OVER (place ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS ended_here
FROM lines WHERE event IN ('client-login', 'client-close', 'link', 'served')
WINDOW place AS (PARTITION BY client_addr, client_port, socket ORDER BY ts, seq),
       thing AS (PARTITION BY process, connection ORDER BY ts, seq);

CREATE OR REPLACE TEMP TABLE clients_there AS
FROM mentioned
WHERE event <> 'client-close' AND ended_there IS NULL AND ended_here IS NULL;

CREATE OR REPLACE TEMP TABLE servers_there AS
SELECT process, connection, seq FROM (
  SELECT *,
         max(CASE WHEN passed THEN seq END) OVER (thing ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS ended,
         CASE WHEN client_port IS NOT NULL THEN
           max(CASE WHEN passed AND event = 'server-connect' THEN seq END)
             OVER (PARTITION BY client_addr, client_port ORDER BY seq ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
         END AS taken
  FROM lines WHERE event IN ('server-connect', 'server-close')
  WINDOW thing AS (PARTITION BY process, connection ORDER BY seq)
) WHERE event = 'server-connect' AND ended IS NULL AND taken IS NULL;

CREATE OR REPLACE TEMP TABLE present_words AS
SELECT seq FROM told WHERE NOT passed
UNION
SELECT t.seq FROM told t JOIN open_connections o USING (sidecar, life, connection)
WHERE t.event = 'open' OR t.sidecar_seq >= o.last_word
UNION
-- Server sessions that were there may bear the name of one that drifted for as long as they last.
SELECT t.seq FROM told t JOIN (
  SELECT DISTINCT sidecar, life, connection FROM told
  WHERE event = 'drift' AND ts > (SELECT min(ts) FROM lines JOIN servers_there USING (seq))) d
  USING (sidecar, life, connection)
WHERE t.event IN ('open', 'identify', 'drift', 'close');

-- Lives of a sidecar from the first on that matters.
CREATE OR REPLACE TEMP TABLE present_lives AS
SELECT sidecar, min(life) AS first_life
FROM (SELECT sidecar, life FROM lives WHERE NOT over
      UNION ALL SELECT t.sidecar, t.life FROM told t JOIN present_words USING (seq))
GROUP BY sidecar;

CREATE OR REPLACE TEMP TABLE present_identity AS
SELECT seq FROM present_words
UNION
SELECT t.seq FROM told t JOIN present_lives p ON p.sidecar = t.sidecar AND t.life >= p.first_life
WHERE t.event IN ('start', 'stop')
UNION
-- That there is a sidecar at all.
SELECT max_by(seq, (ts, seq)) FROM told WHERE event = 'start';

CREATE OR REPLACE TEMP TABLE beats AS
SELECT seq, event, ts, process, lag(seq) OVER (PARTITION BY process ORDER BY ts, seq) AS before,
       row_number() OVER (PARTITION BY process, event ORDER BY ts DESC, seq DESC) AS newest
FROM lines WHERE event IN ('alive', 'process-up', 'elapsed');

CREATE OR REPLACE TEMP TABLE present_lines AS
SELECT seq FROM lines
WHERE NOT passed OR event IN ('process-up', 'process-down', 'pairing-begins')
UNION
-- How often it writes its statistics, and where it fell silent.
SELECT seq FROM beats WHERE event = 'alive' AND newest <= 20
UNION
SELECT unnest([b.seq, b.before]) FROM beats b WHERE b.seq IN (SELECT seq FROM silent)
UNION
SELECT unnest([seq, before_here, before_there]) FROM clients_there
WHERE event = 'client-login' OR first_here OR last_here
UNION
SELECT seq FROM servers_there
UNION
-- Whom they served, from the last transaction on that no statement to come can be in.
SELECT l.seq FROM lines l JOIN servers_there s ON l.process = s.process AND l.seq > s.seq
 AND coalesce(CASE WHEN l.event IN ('link', 'served') THEN l.detail ELSE l.connection END, s.connection) = s.connection
LEFT JOIN passed_pairs p ON p.seq = s.seq
WHERE l.event IN ('link', 'served', 'replay', 'pooler-query', 'unpaired') AND l.seq >= coalesce(p.goes_on, 0)
UNION
-- What the pooler says by itself, each text once; settings that it plays again are known by their form.
SELECT min(l.seq) FROM lines l JOIN servers_there s ON l.process = s.process AND l.seq > s.seq AND l.connection = s.connection
WHERE l.event = 'pooler-query' OR (l.event = 'replay' AND l.detail NOT LIKE '%;')
GROUP BY s.seq, l.detail
UNION
-- That there is such a line at all says what the log tells.
SELECT max(seq) FROM lines WHERE event IN ('server-connect', 'client-login') GROUP BY event;

-- Whoever is mentioned came and went as he did.
CREATE OR REPLACE TEMP TABLE present AS
SELECT seq FROM present_identity
UNION
SELECT seq FROM present_lines WHERE seq IS NOT NULL
UNION
SELECT m.seq FROM mentioned m
JOIN (SELECT DISTINCT process, connection, stay FROM mentioned JOIN present_lines USING (seq)) k
  USING (process, connection, stay)
WHERE m.event IN ('client-login', 'client-close');

-- A name that couldn't be replayed casts doubt as long as anybody is there who was there then. Where nobody who
-- is there has come since the one before it, it says nothing new.
INSERT INTO present
WITH warned AS (
  SELECT w.seq, w.ts, lag(w.ts) OVER (ORDER BY w.ts, w.seq) AS before,
         -- The log tells of everybody who was there.
         EXISTS (FROM lines u WHERE u.event = 'process-up' AND u.process = w.process AND u.ts <= w.ts)
           AND NOT EXISTS (FROM beats b JOIN silent USING (seq) JOIN lines s ON s.seq = b.before WHERE s.ts <= w.ts) AS told
  FROM lines w WHERE w.event = 'too-long-value' AND w.passed
), there AS (
  -- Clocks may differ by less than that.
  SELECT l.ts - (h."at" - p."at") AS since, l.client_addr IS NOT NULL AS is_client
  FROM lines l JOIN present USING (seq) CROSS JOIN horizon h CROSS JOIN pairs_until p
  UNION ALL
  SELECT t.ts - (h."at" - p."at"), false FROM told t JOIN present USING (seq) CROSS JOIN horizon h CROSS JOIN pairs_until p
)
SELECT w.seq FROM warned w
WHERE (w.before IS NULL OR EXISTS (FROM there t WHERE t.since <= w.ts AND t.since > w.before - (SELECT h."at" - p."at" FROM horizon h, pairs_until p)))
  AND (NOT w.told OR EXISTS (FROM clients_there WHERE stay = 0)
       OR EXISTS (FROM there t WHERE t.is_client AND t.since <= w.ts));

CREATE OR REPLACE TEMP TABLE elapsed AS
WITH numbered AS (
  SELECT t.*, p.seq IS NOT NULL AS kept, lag(last_of) OVER w AS before, lag(p.seq IS NOT NULL) OVER w AS kept_before
  FROM told t LEFT JOIN present p USING (seq)
  WINDOW w AS (PARTITION BY sidecar, life ORDER BY sidecar_seq, ts)
), stretches AS (
  SELECT *, count(CASE WHEN kept OR kept_before OR sidecar_seq - before > 1 THEN 1 END)
              OVER (PARTITION BY sidecar, life ORDER BY sidecar_seq, ts) AS stretch
  FROM numbered
)
SELECT max_by(seq, last_of) AS seq, 'identity' AS source, max_by(ts, last_of) AS ts, sidecar,
       min(sidecar_seq) AS sidecar_seq, max(last_of)::VARCHAR AS detail
FROM stretches JOIN present_lives USING (sidecar) WHERE NOT kept AND life >= first_life GROUP BY sidecar, life, stretch
UNION ALL BY NAME
-- The last beat before one that stays.
SELECT b.seq, 'pgbouncer' AS source, b.ts, b.process AS sidecar
FROM beats b JOIN beats n ON n.before = b.seq
WHERE b.seq NOT IN (FROM present) AND n.seq IN (FROM present)
UNION ALL BY NAME
SELECT seq, 'pgbouncer' AS source, ts, process AS sidecar FROM lines
WHERE seq NOT IN (FROM present)
QUALIFY row_number() OVER (PARTITION BY process ORDER BY ts, seq) = 1
    AND ts < (SELECT min(l.ts) FROM lines l JOIN present USING (seq) WHERE l.process = lines.process);
