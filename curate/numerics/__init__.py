"""Pure functions on arrays: no I/O, no logging, no global randomness."""
