"""A PLM's files: where they are, which kind of model they hold, and how they are loaded."""
