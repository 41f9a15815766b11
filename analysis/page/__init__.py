"""report.html: a study as one file that a browser opens without network. Tables first, then interactive figures.

The numbers, names and colours are those of the PDF. Python chooses what is drawn, with plotly's objects, and the script
draws it. plotly.js and the figures are compressed, so that the file stays small and the tables are shown first.
"""
