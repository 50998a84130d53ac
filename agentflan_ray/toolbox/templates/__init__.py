"""Task templates, one file for each group of domains: each plays a task in a world by really calling the tools."""
