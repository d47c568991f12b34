"""Keeps Lightning from saying what its users, but not ours, want to know."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTER = (
    ".*does not have many workers.*",
    ".*IterableDataset.*",
    ".*resuming from a checkpoint.*",
    ".*LeafSpec.*",
    ".*sync_dist.*",
    ".*find_unused_parameters.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Inside, Lightning says only what is a warning, and not those that mean nothing here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for chatter in _CHATTER:
                warnings.filterwarnings("ignore", chatter)
            yield
    finally:
        logger.setLevel(level)
