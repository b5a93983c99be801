"""Where work runs: in this process, or on Ray. Both give the same bytes."""
