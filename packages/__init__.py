"""What makes the packages that are published."""
