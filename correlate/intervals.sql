-- Events of connections -> intervals during which an endpoint belonged to somebody.
-- Reads: events (columns of EVIDENCE), periods, silences. Writes: identities, drifts, pooler_clients, strangers,
-- unheard, server_links, coverage.
-- The server and the pooler log whole milliseconds, cut off: a beginning is cut likewise.

-- The same event may arrive twice (at-least-once shipping): the first of them counts. A sidecar that
-- starts again may count from the beginning again: its lives are told apart.
CREATE OR REPLACE TEMP TABLE identity_events AS
SELECT *, count(CASE WHEN event = 'start' THEN 1 END) OVER (PARTITION BY sidecar ORDER BY ts, sidecar_seq)
          AS life
FROM events
WHERE source = 'identity' AND seq IN (
  SELECT min(seq) FROM events WHERE source = 'identity'
  GROUP BY sidecar, sidecar_seq, event, connection, ts, client_addr, client_port);

-- Where events are missing: what was said before may have been changed by one of those.
CREATE OR REPLACE TEMP TABLE identity_holes AS
WITH numbered AS (
  SELECT sidecar, sidecar_seq, lag(life) OVER w AS life, lag(last_of(event, sidecar_seq, detail)) OVER w AS last_seq,
         lag(ts) OVER w AS known_until
  FROM identity_events
  WINDOW w AS (PARTITION BY sidecar ORDER BY life, sidecar_seq, ts)
)
SELECT sidecar, life, last_seq, known_until FROM numbered WHERE sidecar_seq - last_seq > 1;

CREATE OR REPLACE TEMP TABLE process_ups AS
SELECT ts, sidecar AS process, detail AS version
FROM events WHERE source = 'pgbouncer' AND event = 'process-up';

-- Which span of time the pooler's log speaks of. An idle PgBouncer writes its statistics every
-- minute, so that a connection still open at the end is known to live a minute longer.
CREATE OR REPLACE TEMP TABLE coverage AS
SELECT min(ts) AS since, max(ts) + INTERVAL 65 SECONDS AS until
FROM events WHERE source = 'pgbouncer';

-- Until when each process was there at the latest: it is told to stop, or starts anew, or its statistics
-- fail to appear. That another process starts says nothing: there may be several.
CREATE OR REPLACE TEMP TABLE processes AS
SELECT e.sidecar AS process,
       coalesce(min(e.ts) = min(e.ts) FILTER (e.event = 'process-up'), false) AS begins_here,
       least((SELECT until FROM coverage),
             CASE WHEN max_by(e.event, (e.ts, e.seq)) = 'process-down' THEN max(e.ts)
                  WHEN any_value(u.seen) IS NOT NULL
                  THEN max(e.ts) + to_microseconds(
                         (1.5 * greatest(coalesce(any_value(u.period_us), 60e6), 1e6) + 5e6)::BIGINT) END)
         AS gone
FROM events e LEFT JOIN periods u ON u.process = e.sidecar
WHERE e.source = 'pgbouncer' AND e.sidecar IS NOT NULL
GROUP BY e.sidecar;

-- Nothing a sidecar said holds past its next start or stop, nor past three missed heartbeats
-- after the last word of that life.
CREATE OR REPLACE TEMP TABLE sidecar_ends AS
SELECT sidecar, NULL::BIGINT AS life, ts AS ends_at
FROM identity_events WHERE event IN ('start', 'stop')
UNION ALL
SELECT sidecar, life,
       max(ts) + to_seconds(3 * coalesce(max(heartbeat_s(event, detail)), 10))
FROM identity_events GROUP BY sidecar, life;

-- Who the actor of a connection was from one word (`open`, `identify`) to the next.
CREATE OR REPLACE TEMP TABLE identities AS
WITH opens AS (
  SELECT *,
         -- Connections of one process over a unix socket have one endpoint at the same time.
         CASE WHEN client_addr NOT LIKE 'unix%' THEN
           lead(ts) OVER (PARTITION BY client_addr, client_port ORDER BY ts, seq)
         END AS next_open
  FROM identity_events WHERE event = 'open'
), words AS (
  SELECT w.seq, w.event, w.ts, w.sidecar, w.life, w.sidecar_seq, o.seq AS open_seq, o.ts AS opened,
         o.client_addr, o.client_port, o.next_open, o.database, o.db_role, o.application_name,
         coalesce(w.peer_addr, o.peer_addr) AS peer_addr,
         coalesce(w.peer_port, o.peer_port) AS peer_port,
         w.actor, w.email, w.actor_kind, w.on_behalf_of, w.authn, w.tag,
         lead(w.event) OVER (PARTITION BY w.sidecar, w.life, w.connection, o.seq
                             ORDER BY w.sidecar_seq) AS next_event,
         lead(w.ts) OVER (PARTITION BY w.sidecar, w.life, w.connection, o.seq
                          ORDER BY w.sidecar_seq) AS next_word
  FROM identity_events w
  ASOF JOIN opens o
    ON w.sidecar = o.sidecar AND w.life = o.life AND w.connection = o.connection
   AND w.sidecar_seq >= o.sidecar_seq
  WHERE w.event IN ('open', 'identify', 'close')
), bounded AS (
  SELECT w.*, h.known_until,
         (SELECT min(e.ends_at) FROM sidecar_ends e
          WHERE e.sidecar = w.sidecar AND coalesce(e.life = w.life, true)
            AND e.ends_at > w.ts) AS sidecar_end,
         (SELECT min(u.ts) FROM process_ups u WHERE u.ts > w.ts) AS pooler_up
  FROM words w
  ASOF LEFT JOIN identity_holes h
    ON w.sidecar = h.sidecar AND w.life = h.life AND w.sidecar_seq <= h.last_seq
  WHERE w.event <> 'close'
)
SELECT * EXCLUDE (next_word, next_event, next_open, known_until, sidecar_end, pooler_up, life,
                  sidecar_seq),
       date_trunc('millisecond', ts) AS since,
       least(next_word, next_open, known_until, sidecar_end) AS until,
       -- Behind a pooler, its own word on when a connection closed is the better one: what the
       -- client sent last may be logged after the sidecar saw it leave. But it may be missing.
       least(next_word + CASE WHEN next_event = 'close' THEN INTERVAL 10 SECONDS ELSE INTERVAL 0 SECONDS END,
             next_open, known_until, CASE WHEN next_event = 'close' THEN NULL ELSE sidecar_end END,
             pooler_up) AS pooled_until
FROM bounded;

-- While a client may bear a name that the sidecar didn't give it: from the event until it is tagged
-- again or goes. A name that is nobody's tag does no harm: it is gone before the client's next word.
CREATE OR REPLACE TEMP TABLE drifts AS
WITH harmful AS (
  SELECT * FROM (
    SELECT *,
           CASE WHEN json_valid(detail) THEN json_extract_string(detail, '$.reason') END AS reason
    FROM identity_events WHERE event = 'drift')
  WHERE coalesce(reason, '') <> 'changed'
     OR split_part(application_name, ' ', 1) IN (SELECT tag FROM identity_events)
), ended AS (
  SELECT d.*,
         -- The next word that ends it, and whether what the client had sent was still being worked off.
         (SELECT min_by(struct_pack(ts := w.ts,
                                    pending := w.event = 'close' AND json_valid(w.detail)
                                      AND coalesce(json_extract_string(w.detail, '$.pending') = 'true',
                                                   false)),
                        w.sidecar_seq)
          FROM identity_events w
          WHERE w.sidecar = d.sidecar AND w.life = d.life AND w.connection = d.connection
            AND w.sidecar_seq > d.sidecar_seq
            AND (w.event = 'close'
                 OR w.event = 'identify' AND coalesce(d.reason, '') <> 'not-held')) AS word,
         (SELECT min(e.ends_at) FROM sidecar_ends e
          WHERE e.sidecar = d.sidecar AND coalesce(e.life = d.life, true) AND e.ends_at > d.ts)
           AS sidecar_end
  FROM harmful d
)
SELECT o.database, o.db_role, date_trunc('millisecond', d.ts) AS since,
       least(d.word.ts, d.sidecar_end) AS until,
       -- The server goes on with what it has, however its client ended: sessions that were there then
       -- may bear any name as long as they last.
       CASE WHEN d.word.pending OR d.word IS NULL OR d.sidecar_end < d.word.ts
            THEN least(d.word.ts, d.sidecar_end) END AS tail
FROM ended d
JOIN identity_events o
  ON o.event = 'open' AND o.sidecar = d.sidecar AND o.life = d.life AND o.connection = d.connection;

-- From when on a process may have clients of whom its log doesn't tell, because a part of it is missing.
CREATE OR REPLACE TEMP TABLE unheard AS
SELECT s.source AS process, s.since, s.until AS heard_again,
       least((SELECT min(u.ts) FROM process_ups u WHERE u.process = s.source AND u.ts > s.since), p.gone)
         AS until
FROM silences s JOIN processes p ON p.process = s.source WHERE s.reason = 'pooler-log-silent';

-- What the pooler says of its clients, in order. Connections of one process over a unix socket have one
-- endpoint at the same time: there the pointer tells them apart.
CREATE OR REPLACE TEMP TABLE mentions AS
WITH places AS (
  SELECT seq, event, ts, sidecar AS process, connection AS pointer, client_addr, client_port,
         database, db_role, detail,
         CASE WHEN client_addr LIKE 'unix%' THEN sidecar || ' ' || connection ELSE '' END AS socket
  FROM events
  WHERE source = 'pgbouncer' AND event IN ('client-login', 'client-close', 'link', 'served')
), before AS (
  SELECT *,
         lag((process, pointer)) OVER place AS before_here, lag(ts) OVER place AS before_here_at,
         lag((client_addr, client_port)) OVER thing AS before_there, lag(ts) OVER thing AS before_there_at
  FROM places
  WINDOW place AS (PARTITION BY client_addr, client_port, socket ORDER BY ts, seq),
         thing AS (PARTITION BY process, pointer ORDER BY ts, seq)
), stays AS (
  SELECT *, count(CASE WHEN event = 'client-login' OR before_here <> (process, pointer) THEN 1 END) OVER place AS stay
  FROM before
  WINDOW place AS (PARTITION BY client_addr, client_port, socket ORDER BY ts, seq)
)
SELECT *, first_value(CASE WHEN event = 'client-login' THEN ts END)
            OVER (PARTITION BY client_addr, client_port, socket, stay ORDER BY ts, seq) AS login
FROM stays;

-- One client's stay at its endpoint, as far as its lines tell.
CREATE OR REPLACE TEMP TABLE stays AS
WITH stay_of AS (
  SELECT client_addr, client_port, socket, stay, any_value(process) AS process, min(seq) AS seq,
         max(database) AS database,
         max(db_role) AS db_role, any_value(login) AS login, min(ts) AS first_seen, max(ts) AS last_seen,
         bool_or(event = 'client-close') AS closed,
         -- Closed before it logged in: a check whether the port is open, or a request to cancel.
         bool_or(event = 'client-close' AND database IS NULL AND db_role IS NOT NULL) AS never_in
  FROM mentions GROUP BY client_addr, client_port, socket, stay
)
SELECT *, lag(last_seen) OVER place AS before, lead(first_seen) OVER place AS following,
       -- The earliest that the next one can have come, who may have come unseen.
       coalesce(lead(login) OVER place, CASE WHEN lead(seq) OVER place IS NOT NULL THEN last_seen END)
         AS next_taken
FROM stay_of
WINDOW place AS (PARTITION BY client_addr, client_port, socket ORDER BY stay);

-- The pooler's client connections. A socket's pointer is reused at once, so that a connection is
-- (process, pointer, endpoint) from its login to its close. No close is logged in a crash.
CREATE OR REPLACE TEMP TABLE pooler_clients AS
WITH logins AS (
  SELECT seq, ts, process, pointer, client_addr, client_port, database, db_role,
         lead(ts) OVER (PARTITION BY process, pointer ORDER BY ts, seq) AS next_login,
         -- Nor can two TCP connections have one endpoint.
         CASE WHEN client_addr NOT LIKE 'unix%' THEN
           lead(ts) OVER (PARTITION BY client_addr, client_port ORDER BY ts, seq)
         END AS next_at_endpoint
  FROM mentions WHERE event = 'client-login'
), taken AS (
  -- Until when an endpoint can have been another's who was spoken of: his login at least, if the log has
  -- it; his last line, if it doesn't.
  SELECT seq, lag(CASE WHEN client_addr LIKE 'unix%' THEN login ELSE coalesce(login, ts) END)
                OVER (PARTITION BY client_addr, client_port ORDER BY ts, seq) AS taken_until
  FROM mentions
), replaced AS (
  -- Another pointer at the endpoint, or another endpoint of the pointer, and no login between them: that
  -- line is missing, and whoever was there before is sure for no longer than his own last line.
  SELECT before_here[1] AS process, before_here[2] AS pointer, client_addr, client_port,
         before_here_at AS last_seen
  FROM mentions
  WHERE event <> 'client-login' AND before_here <> (process, pointer)
  UNION ALL
  SELECT process, pointer, before_there[1], before_there[2], before_there_at
  FROM mentions
  -- (A client's end may be noted twice, or behind the next login in the same millisecond.)
  WHERE event <> 'client-login' AND before_there <> (client_addr, client_port) AND login IS NULL
), ended AS (
  SELECT l.*, c.ts AS closed, c.detail AS ending, r.last_seen, t.taken_until, y.next_taken,
         -- What was missed then may be its end, and another's beginning.
         (SELECT min(greatest(u.since, l.ts)) FROM unheard u
          WHERE u.process = l.process AND u.heard_again > l.ts) AS heard,
         (SELECT min(u.ts) FROM process_ups u WHERE u.ts > l.ts) AS pooler_up,
         (SELECT min(u.ts) FROM process_ups u WHERE u.process = l.process AND u.ts > l.ts) AS own_up,
         p.gone
  FROM logins l
  JOIN processes p ON p.process = l.process
  ASOF LEFT JOIN (FROM mentions WHERE event = 'client-close') c
    ON l.process = c.process AND l.pointer = c.pointer AND l.client_addr = c.client_addr
   AND l.client_port = c.client_port AND l.ts <= c.ts
  ASOF LEFT JOIN replaced r
    ON l.process = r.process AND l.pointer = r.pointer AND l.client_addr = r.client_addr
   AND l.client_port = r.client_port AND l.ts <= r.last_seen
  JOIN taken t ON t.seq = l.seq
  LEFT JOIN stays y ON y.seq = l.seq
)
SELECT seq, process, client_addr, client_port, database, db_role, taken_until, next_taken, ts AS since,
       -- Known to be this one; and there at the latest, which is what counts where it may do harm.
       least(closed, next_login, next_at_endpoint, last_seen, heard, pooler_up, (SELECT until FROM coverage)) AS until,
       least(closed, next_login, next_at_endpoint, own_up, gone) AS lasting,
       -- The login is logged before the password is checked; these endings say it failed.
       coalesce(regexp_matches(ending,
         'authentication failed|login rejected|no such (user|database)|not allowed|^bad '),
         false) AS failed
FROM ended
WHERE database IS NOT NULL;  -- (nodb) is mock authentication: nobody got in

-- Clients of whom the log tells, but not how they came: nobody knows who they are. They may have come at
-- any time since somebody else was at their endpoint.
CREATE OR REPLACE TEMP TABLE strangers AS
SELECT s.seq, s.client_addr, s.client_port, s.database, s.db_role,
       greatest(coalesce(before, (SELECT since FROM coverage)),
                (SELECT max(u.ts) FROM process_ups u
                 WHERE u.process = s.process AND u.ts <= first_seen)) AS since,
       CASE WHEN closed THEN last_seen
            ELSE least(following, (SELECT min(u.ts) FROM process_ups u
                                   WHERE u.process = s.process AND u.ts > last_seen), p.gone) END AS until
FROM stays s JOIN processes p USING (process)
WHERE login IS NULL AND NOT never_in;

DROP TABLE mentions;  -- the largest: what follows needs its room
DROP TABLE stays;

CREATE OR REPLACE TEMP TABLE server_links AS
SELECT seq, ts, client_addr, client_port, database, db_role
FROM events
WHERE source = 'pgbouncer' AND event = 'server-connect' AND client_port IS NOT NULL;
