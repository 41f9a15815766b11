"""The configuration of a stage: its schema, how it is composed from conf/ and overrides, and what follows from it."""
