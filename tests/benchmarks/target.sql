-- Where the rows of snowflake.sql go, each column in the type that takes all its values.

CREATE TABLE mixed (
    id        bigint,
    line      smallint,
    account   integer,
    parent    bigint,
    amount    numeric(18, 4),
    price     numeric(12, 2),
    discount  numeric(9, 6),
    serial    numeric(38, 0),
    weight    double precision,
    score     double precision,
    is_open   boolean,
    is_paid   boolean,
    code      varchar(8),
    customer  text,
    address   text,
    note      text,
    token     uuid,
    ordered   date,
    shipped   date,
    created   timestamp,
    updated   timestamp,
    opened    time,
    payload   jsonb,
    digest    bytea,
    grade     integer
);
