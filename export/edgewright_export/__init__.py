"""The ahead-of-time half: capture, methods, lowering, verification, sealing.  Needs torch."""
