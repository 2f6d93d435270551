-- The data set as a Snowflake account might hold it: mixed-case names with spaces, real types.
-- RAW holds the files as they were read.

create or replace table TRAVEL."New York"."Airlines" as
select "carrier" as "Carrier", "name" as "Carrier Name" from TRAVEL.RAW."airlines";

create or replace table TRAVEL."New York"."Airports" as
select "faa" as "FAA Code", "name" as "Airport Name", "lat"::float as "Latitude", "lon"::float as "Longitude",
       "alt"::number(6, 0) as "Altitude", "tz"::number(3, 0) as "UTC Offset", "dst" as "DST", "tzone" as "Time Zone"
from TRAVEL.RAW."airports";

create or replace table TRAVEL."New York"."Planes" as
select "tailnum" as "Tail Number", "year"::number(4, 0) as "Year Built", "type" as "Type",
       "manufacturer" as "Manufacturer", "model" as "Model", "engines"::number(2, 0) as "Engines",
       "seats"::number(4, 0) as "Seats", "speed"::number(6, 0) as "Speed", "engine" as "Engine"
from TRAVEL.RAW."planes";

create or replace table TRAVEL."New York"."Weather Log" as
select "origin" as "Origin", "year"::number(4, 0) as "Year", "month"::number(2, 0) as "Month",
       "day"::number(2, 0) as "Day", "hour"::number(2, 0) as "Hour", "temp"::float as "Temperature",
       "dewp"::float as "Dew Point", "humid"::number(5, 2) as "Humidity", "wind_dir"::number(3, 0) as "Wind Direction",
       "wind_speed"::float as "Wind Speed", "wind_gust"::float as "Wind Gust", "precip"::number(6, 3) as "Precipitation",
       "pressure"::number(6, 1) as "Pressure", "visib"::number(5, 2) as "Visibility",
       "time_hour"::timestamp_ntz as "Time Hour"
from TRAVEL.RAW."weather";

create or replace table TRAVEL."New York"."Flights 2013" as
select "year"::number(4, 0) as "Year", "month"::number(2, 0) as "Month", "day"::number(2, 0) as "Day",
       "dep_time"::number(4, 0) as "Departure Time", "sched_dep_time"::number(4, 0) as "Scheduled Departure",
       "dep_delay"::number(5, 0) as "Departure Delay", "arr_time"::number(4, 0) as "Arrival Time",
       "sched_arr_time"::number(4, 0) as "Scheduled Arrival", "arr_delay"::number(5, 0) as "Arrival Delay",
       "carrier" as "Carrier", "flight"::number(6, 0) as "Flight", "tailnum" as "Tail Number",
       "origin" as "Origin", "dest" as "Destination", "air_time"::number(5, 0) as "Air Time",
       "distance"::number(6, 0) as "Distance", "hour"::number(2, 0) as "Hour", "minute"::number(2, 0) as "Minute",
       "time_hour"::timestamp_ntz as "Time Hour"
from TRAVEL.RAW."flights";
