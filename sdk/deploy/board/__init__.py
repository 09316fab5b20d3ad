"""What is copied to a board: files that run there without Edgewright installed."""
