"""The viewer: what became of the records of a corpus, on the terminal and as a page."""
