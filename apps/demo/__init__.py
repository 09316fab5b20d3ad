"""``make demo``: EfficientNet-Lite0 for two boards and this machine."""
