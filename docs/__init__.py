"""The documentation: pages written by hand (*.md), and what is generated from the code. `make docs` builds it."""
