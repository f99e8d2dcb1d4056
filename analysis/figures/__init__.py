"""Every figure, each a function of records."""
