"""One module a family of figures. Each function takes the study and gives a Figure, or None where it has no data."""
