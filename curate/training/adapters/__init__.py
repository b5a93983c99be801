"""training/adapters."""
