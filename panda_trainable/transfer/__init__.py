"""The METHODS table, and what methods transfer: source prompts, teachers, projected prompts."""
