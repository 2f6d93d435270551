"""The way of rows into a target: emptied, copied or merged in, its indexes and sequences put right afterwards."""
