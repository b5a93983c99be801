"""Silence for what other libraries print while we call them; everything is put back afterwards."""

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Without transformers' own bars for the loading and writing of weights: the run has its bar."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def no_peft_deprecation() -> Iterator[None]:
    """Without the one warning that peft 0.21 causes in transformers 5.23 by asking for a renamed property."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
        )
        yield
