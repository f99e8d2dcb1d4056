"""The experiment file as a checked value; its problems, each with its place in the file."""
