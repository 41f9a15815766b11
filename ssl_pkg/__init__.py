"""Trains and evaluates one stage of the study in one process group. Knows no scheduler, no container, no report."""
