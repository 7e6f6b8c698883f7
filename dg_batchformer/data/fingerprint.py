"""The fingerprint of a dataset: a hash of what is in it, the same for every copy of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def fingerprint(parts: Iterable[bytes]) -> str:
    """16 hexadecimal digits that follow from the parts and their order: SHA-256 of the parts' own."""
    whole = hashlib.sha256()
    for part in parts:
        # Of one length each, so that no part runs into the next.
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]
