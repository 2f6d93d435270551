"""The whole migration on one machine, with a real data set: 336,776 flights that left New York City in 2013."""
