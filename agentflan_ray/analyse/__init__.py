"""From the files of a finished or interrupted run to tables, figures and one report. Needs neither Ray nor torch."""
