"""One run directory: layout, lock, checkpoints and resume, metrics log, progress, provenance, signals."""
