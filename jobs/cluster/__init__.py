"""Submits a plan to SLURM, and reads the states of its jobs."""
