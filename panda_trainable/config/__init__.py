"""Everything that decides a trial, as frozen values with content keys. Imports no torch."""
