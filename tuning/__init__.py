"""One experiment, from its file to its answers."""
