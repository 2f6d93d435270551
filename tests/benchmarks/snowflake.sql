-- A table of 25 columns of every kind that travels; in every third of them, a tenth of the values is NULL.

CREATE OR REPLACE TABLE mixed AS
SELECT n::NUMBER(18, 0)                                                       AS id,
       MOD(n, 32000)::NUMBER(5, 0)                                            AS line,
       MOD(n * 7919, 999999937)::NUMBER(9, 0)                                 AS account,
       IFF(MOD(n, 10) = 0, NULL, MOD(n * 104729, 999999937))::NUMBER(15, 0)   AS parent,
       (MOD(n * 31, 1000000007) / 10000)::NUMBER(18, 4)                       AS amount,
       (MOD(n, 100000) / 100)::NUMBER(12, 2)                                  AS price,
       IFF(MOD(n, 10) = 1, NULL, MOD(n * 17, 1000003) / 1000000)::NUMBER(9, 6) AS discount,
       (n * 1000003)::NUMBER(38, 0)                                           AS serial,
       (n * 0.37)::FLOAT                                                      AS weight,
       IFF(MOD(n, 10) = 2, NULL, n / 3.0)::FLOAT                              AS score,
       MOD(n, 2) = 0                                                          AS is_open,
       IFF(MOD(n, 10) = 3, NULL, MOD(n, 3) = 0)                               AS is_paid,
       ('C' || MOD(n, 997)::VARCHAR)::VARCHAR(8)                              AS code,
       'customer number ' || n::VARCHAR                                       AS customer,
       IFF(MOD(n, 10) = 4, NULL, 'Straße ' || MOD(n, 5000)::VARCHAR || ', 東京') AS address,
       IFF(MOD(n, 10) = 5, NULL, REPEAT('note ' || MOD(n, 100)::VARCHAR || ' ', 8)) AS note,
       MD5(n::VARCHAR)                                                        AS token,
       DATEADD(day, MOD(n, 20000), '1970-01-01'::DATE)::DATE                  AS ordered,
       IFF(MOD(n, 10) = 6, NULL, DATEADD(day, MOD(n, 9000), '2000-01-01'::DATE)::DATE) AS shipped,
       DATEADD(second, n, '2001-01-01'::TIMESTAMP_NTZ)                        AS created,
       IFF(MOD(n, 10) = 7, NULL, DATEADD(second, n * 3, '1999-12-31'::TIMESTAMP_NTZ)) AS updated,
       DATEADD(second, MOD(n, 80000), '2020-01-01'::TIMESTAMP_NTZ)::TIME      AS opened,
       OBJECT_CONSTRUCT('n', n, 'tags', 'a,b')::VARIANT                       AS payload,
       TO_BINARY(MD5(n::VARCHAR), 'HEX')                                      AS digest,
       IFF(MOD(n, 10) = 8, NULL, MOD(n, 7))::NUMBER(9, 0)                     AS grade
FROM (SELECT SEQ4()::NUMBER(18, 0) AS n FROM TABLE(GENERATOR(ROWCOUNT => %(rows)s)))
