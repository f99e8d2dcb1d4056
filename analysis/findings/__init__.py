"""What records say: best configurations, retrieval, comparisons of methods, importance of knobs."""
