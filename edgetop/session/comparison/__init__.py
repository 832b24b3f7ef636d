"""Sessions and bench results held against each other."""
