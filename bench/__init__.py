"""Speed and learning beside what people use: `make bench`, `make bench-ablation`, `make bench-learning`."""
