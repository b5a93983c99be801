"""Models: loading, tokenising, batching, the one pass. Needs torch, transformers and numpy alone."""
