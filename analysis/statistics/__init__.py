"""Gains, correlations, intervals and corrections; knows no records and no plots."""
