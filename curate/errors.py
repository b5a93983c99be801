"""The errors that reach a user. Each carries the process exit code that `curate` ends with.

A message says where, what was expected, what was found, and what to do.
"""


class CurateError(Exception):
    """A failure while running."""

    exit_code = 1


class ConfigError(CurateError):
    """Wrong usage or configuration, found before any work."""

    exit_code = 2


class DataError(CurateError):
    """The data cannot be used: too many bad rows, an empty pool, a budget larger than the pool."""

    exit_code = 3
