"""Values on integer grids; the design is in README.md."""
