"""The sections of the report: figures and tables with their captions, and sentences generated from the numbers."""
