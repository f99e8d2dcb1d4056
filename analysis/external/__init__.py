"""Other people's results from CSV files, correlated with the same statistics."""
