"""The report's sections: which figures and tables, what their captions say, which sentences the numbers support."""
