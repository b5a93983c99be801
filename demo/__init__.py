"""The demo: a pool of several schemas made from installed packages, and the recipe that selects from it."""
