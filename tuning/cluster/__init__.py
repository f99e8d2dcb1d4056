"""Ray and its nodes: addresses, the connection, what workers are given, resources, and calls that run in parallel."""
