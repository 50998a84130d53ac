"""The tools, one file for each group of domains."""
