"""The fault harness: that it sees what is wrong, and that nothing is."""
