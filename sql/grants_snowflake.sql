-- What the loading user needs in Snowflake: to read the source tables, and a warehouse to do it with.
-- For a worksheet: edit the names, then run it as SECURITYADMIN (users, roles) with the right to grant on the source schema.

CREATE ROLE IF NOT EXISTS snowmelt_reader;
CREATE USER IF NOT EXISTS snowmelt
    TYPE = SERVICE
    DEFAULT_ROLE = snowmelt_reader
    DEFAULT_WAREHOUSE = loading
    RSA_PUBLIC_KEY = 'MIIBIjANBgkq...';  -- openssl genrsa 2048 | openssl pkcs8 -topk8 -out key.p8; openssl rsa -in key.p8 -pubout
GRANT ROLE snowmelt_reader TO USER snowmelt;

GRANT USAGE ON WAREHOUSE loading TO ROLE snowmelt_reader;

-- Names that are not upper case, or hold spaces, stand in double quotes.
GRANT USAGE ON DATABASE nyc TO ROLE snowmelt_reader;
GRANT USAGE ON SCHEMA nyc.public TO ROLE snowmelt_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA nyc.public TO ROLE snowmelt_reader;
GRANT SELECT ON ALL VIEWS IN SCHEMA nyc.public TO ROLE snowmelt_reader;

-- Tables that will be made later:
-- GRANT SELECT ON FUTURE TABLES IN SCHEMA nyc.public TO ROLE snowmelt_reader;

-- Nothing more: it writes nothing, creates nothing, and needs no stage. A result can be read only by the user and with
-- the role that ran the statement, so keep both while a run is open.
