"""Whether a target holds just what was read, computed without a driver: forms of values, hashes, what differs where."""
