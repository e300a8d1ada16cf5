"""Studies: files, identity, seeds, and the data that travels with a chunk."""
