"""The promises, each kept on a whole migration."""
