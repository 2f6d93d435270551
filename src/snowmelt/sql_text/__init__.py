"""SQL as text: Snowflake's lexer and literals, and the named queries of PostgreSQL."""
