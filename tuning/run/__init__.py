"""What the commands do: search, confirm, train, retrieve, dry run, and Ray's part of it."""
