"""Figures, grouped into modules. Each function takes the study and returns a Figure, or None if there is no data."""
