"""What may go wrong before anything moves: facts in, findings out; nothing here talks to a server."""
