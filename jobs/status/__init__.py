"""What users see of a study: the state of each run, as a table or as JSON."""
