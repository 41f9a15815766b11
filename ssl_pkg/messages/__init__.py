"""How messages to people are written: encodings, line breaks, counts and the nearest valid name."""
