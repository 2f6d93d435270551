-- The tables of the target, as their owner made them: names fold to those of the source, and keys are declared.

CREATE SCHEMA new_york;

CREATE TABLE new_york.airlines (
    "carrier"      text PRIMARY KEY,
    "carrier name" text NOT NULL
);

CREATE TABLE new_york.airports (
    "faa code"     text PRIMARY KEY,
    "airport name" text NOT NULL,
    "latitude"     double precision,
    "longitude"    double precision,
    "altitude"     integer,
    "utc offset"   smallint,
    "dst"          text,
    "time zone"    text
);

CREATE TABLE new_york.planes (
    "tail number"  text PRIMARY KEY,
    "year built"   smallint,
    "type"         text,
    "manufacturer" text,
    "model"        text,
    "engines"      smallint,
    "seats"        smallint,
    "speed"        integer,
    "engine"       text
);

CREATE TABLE new_york.weather_log (
    "origin"         text      NOT NULL,
    "year"           smallint  NOT NULL,
    "month"          smallint  NOT NULL,
    "day"            smallint  NOT NULL,
    "hour"           smallint  NOT NULL,
    "temperature"    double precision,
    "dew point"      double precision,
    "humidity"       numeric(5, 2),
    "wind direction" smallint,
    "wind speed"     double precision,
    "wind gust"      double precision,
    "precipitation"  numeric(6, 3),
    "pressure"       numeric(6, 1),
    "visibility"     numeric(5, 2),
    "time hour"      timestamp NOT NULL
);

CREATE TABLE new_york.flights_2013 (
    "Year"                smallint NOT NULL,
    "Month"               smallint NOT NULL,
    "Day"                 smallint NOT NULL,
    "Departure Time"      smallint,
    "Scheduled Departure" smallint NOT NULL,
    "Departure Delay"     integer,
    "Arrival Time"        smallint,
    "Scheduled Arrival"   smallint NOT NULL,
    "Arrival Delay"       integer,
    "Carrier"             text     NOT NULL,
    "Flight"              integer  NOT NULL,
    "Tail Number"         text,
    "Origin"              text     NOT NULL,
    "Destination"         text     NOT NULL,
    "Air Time"            integer,
    "Distance"            integer  NOT NULL,
    "Hour"                smallint NOT NULL,
    "Minute"              smallint NOT NULL,
    "Time Hour"           timestamp NOT NULL,
    PRIMARY KEY ("Year", "Month", "Day", "Scheduled Departure", "Carrier", "Flight", "Origin")
);
