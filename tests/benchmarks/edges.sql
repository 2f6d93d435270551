-- Rows at the edges of every type, as PostgreSQL itself writes them: what a migration has to bring over unchanged.

CREATE TABLE edges_truth (
    id        bigint,
    words     text,
    code      varchar(8),
    serial    numeric(38, 0),
    amount    numeric(38, 18),
    weight    double precision,
    is_open   boolean,
    ordered   date,
    created   timestamp,
    opened    time,
    payload   jsonb,
    digest    bytea
);

INSERT INTO edges_truth VALUES
(1, '', 'ab', 99999999999999999999999999999999999999, 99999999999999999999.999999999999999999, 'NaN', true,
 '0001-01-01', '0001-01-01 00:00:00', '00:00:00', '{"n": 12345678901234567890}', '\x'),
(2, NULL, '', -99999999999999999999999999999999999999, 0.000000000000000001, 'Infinity', false,
 '9999-12-31', '9999-12-31 23:59:59.999999', '23:59:59.999999', 'null', '\x00ff'),
(3, 'NULL', 'ab  ', 9223372036854775808, -0.100000000000000000, '-Infinity', NULL,
 '1582-10-04', '1969-12-31 23:59:59.999999', '12:00:00.000001', '"text"', '\xdeadbeef'),
(4, '\N', '  ab', 0, 0, '-0', true,
 '1969-12-31', '2262-04-12 00:00:00.000001', '00:00:00.1', '{"t": null, "u": ""}', NULL),
(5, '\.', NULL, NULL, NULL, 1e-300, true,
 NULL, NULL, NULL, NULL, '\x5c'),
(6, '  spaces around  ', 'Ä東', 1, 1.5, 0.1, true,
 '2024-02-29', '2024-02-29 12:34:56.789', '12:34:56.789', '[1, 2.5, {"a": "ü"}]', '\x22'),
(7, E'tab\tquote"comma,line\nreturn\r\nbackslash\\', '1e5', 10, 100000, 1e22, false,
 '2000-01-01', '2000-01-01 00:00:00', '06:00:00', '{"quote": "\"", "slash": "\\"}', '\x0a'),
(8, '2024-01-01', '007', 7, 0.3, 123456789.123456789, false,
 '1900-01-01', '1900-01-01 00:00:00.5', '18:30:00', '"2024-01-01"', '\x09'),
(9, '😀 true', 'true', 1000000000000000000000, 12345678901234567.123456789012345678, 5e-324, true,
 '2038-01-19', '2038-01-19 03:14:08', '23:59:59', 'true', '\xff');

CREATE TABLE edges (LIKE edges_truth);
