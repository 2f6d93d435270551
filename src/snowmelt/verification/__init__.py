"""Whether a target holds just what was read, reckoned without a driver: forms of values, hashes, what differs where."""
