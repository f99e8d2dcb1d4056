"""What the commands do: search, confirm, train, retrieve and dry run."""
