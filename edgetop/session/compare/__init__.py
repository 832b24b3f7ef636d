"""Results of sessions and benchmarks held against one of them."""
