"""What would stop a search, looked for on the driver and on every node before hours are spent: a table of checks."""
