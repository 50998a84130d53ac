"""Corpora: alignment, decomposition, instruction pairs, negatives, and the graph that builds them on Ray Data."""
