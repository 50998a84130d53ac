"""ALFWorld's text games (Shridhar et al., arXiv 2010.03768), played without its simulator, planner or compiler."""
