"""From raw rows to token tables, and the train, selection and report rows of each seed."""
