-- How often each running PgBouncer writes its statistics, as its lines show: a SELECT over events.
-- No row where it writes none (`log_stats = 0`); no period where there is one line only.
SELECT origin, process, count(period_us) AS seen, median(period_us) AS period_us
FROM (SELECT origin, sidecar AS process,
             epoch_us(ts) - epoch_us(lag(ts) OVER (PARTITION BY origin, sidecar ORDER BY ts, seq)) AS period_us
      FROM {events} WHERE source = 'pgbouncer' AND event = 'alive')
GROUP BY origin, process
