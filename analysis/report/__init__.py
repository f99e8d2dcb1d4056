"""The page and its tables."""
