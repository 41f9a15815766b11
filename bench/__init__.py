"""Benchmarks of speed and learning, one `make bench…` each, and studies on a machine that is lent for minutes."""
