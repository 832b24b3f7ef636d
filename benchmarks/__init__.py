"""Measurements of edgetop itself, run by hand; none of it is shipped."""
