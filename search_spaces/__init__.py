"""What may be searched: domains, conditions, and a space per method."""
