"""Which runs a study has, and in which order."""
