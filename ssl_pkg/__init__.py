"""Trains and evaluates one stage of a study in one process group. Knows no scheduler and no container.

`jobs` and `analysis` import those of its modules that need no torch, and it imports neither.
"""
