"""The SIMILARITIES table, what similarities read, and where they are not defined."""
