"""Benchmarks of speed and learning: `make bench`, `bench-ablation`, `bench-scale` and `bench-learning`."""
