"""The report: one HTML file that says what was exported, how good it is and how that is known."""
