"""What a step, a search and the driver cost, against what a user would run instead."""
