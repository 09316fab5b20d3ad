"""Token dropping, in parts: find the transformer, reduce between its blocks, restore, account."""
