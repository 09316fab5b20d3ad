"""What token dropping costs and gives on real models; the figures are in ``export/edgewright_export/methods/tokens/README.md``."""
