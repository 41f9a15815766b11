"""Sends a plan to SLURM, and reads what became of it."""
