"""The SIMILARITIES table, and the representations that similarities compare."""
