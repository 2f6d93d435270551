"""What a run did, for people and programs: facts in, a report as JSON and as one HTML page out. Pure."""
