"""The life of one run directory: its layout, lock, checkpoints, metrics log, progress and provenance."""
