"""Stand-ins for one machine, each at the wire: Snowflake, PostgreSQL, Lambda and Step Functions."""
