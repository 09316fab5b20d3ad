"""Programs built on Edgewright.  Never installed."""
