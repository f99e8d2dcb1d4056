"""Soft prompts: their two forms, how they are stored, and where they start."""
