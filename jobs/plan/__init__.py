"""The runs of a study, their order and their settings."""
