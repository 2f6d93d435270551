-- The rows of snowflake.sql as PostgreSQL itself makes them: what a migration has to bring over unchanged.

CREATE TABLE mixed_truth (LIKE mixed);

INSERT INTO mixed_truth
SELECT n                                                                       AS id,
       mod(n, 32000)                                                           AS line,
       mod(n * 7919, 999999937)                                                AS account,
       CASE WHEN mod(n, 10) <> 0 THEN mod(n * 104729, 999999937) END           AS parent,
       mod(n * 31, 1000000007) / 10000.0                                       AS amount,
       mod(n, 100000) / 100.0                                                  AS price,
       CASE WHEN mod(n, 10) <> 1 THEN mod(n * 17, 1000003) / 1000000.0 END     AS discount,
       n::numeric * 1000003                                                    AS serial,
       (n * 0.37)::double precision                                            AS weight,
       CASE WHEN mod(n, 10) <> 2 THEN n::double precision / 3 END              AS score,
       mod(n, 2) = 0                                                           AS is_open,
       CASE WHEN mod(n, 10) <> 3 THEN mod(n, 3) = 0 END                        AS is_paid,
       'C' || mod(n, 997)                                                      AS code,
       'customer number ' || n                                                 AS customer,
       CASE WHEN mod(n, 10) <> 4 THEN 'Straße ' || mod(n, 5000) || ', 東京' END AS address,
       CASE WHEN mod(n, 10) <> 5 THEN repeat('note ' || mod(n, 100) || ' ', 8) END AS note,
       md5(n::text)::uuid                                                      AS token,
       date '1970-01-01' + mod(n, 20000)::integer                              AS ordered,
       CASE WHEN mod(n, 10) <> 6 THEN date '2000-01-01' + mod(n, 9000)::integer END AS shipped,
       timestamp '2001-01-01' + n * interval '1 second'                        AS created,
       CASE WHEN mod(n, 10) <> 7 THEN timestamp '1999-12-31' + n * interval '3 seconds' END AS updated,
       time '00:00' + mod(n, 80000) * interval '1 second'                      AS opened,
       jsonb_build_object('n', n, 'tags', 'a,b')                               AS payload,
       decode(md5(n::text), 'hex')                                             AS digest,
       CASE WHEN mod(n, 10) <> 8 THEN mod(n, 7) END                            AS grade
FROM generate_series(0::bigint, %(rows)s - 1) AS numbers (n);
