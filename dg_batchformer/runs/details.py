"""What a record may have of a part of an environment beside its accuracies, such as `env0_in_ece`.

Long tails have accuracies by class; `--save_predictions` gives the others.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

LARGEST = 2**63 - 1
"""The largest count that a record may have."""

Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Accuracy = Annotated[float, msgspec.Meta(ge=0, le=1)]
Accuracies = list[Accuracy | None]
"""Accuracies of classes; None for a class without images."""

BY_CLASS, CONFUSION = "by_class", "confusion"

DETAILS: Mapping[str, Any] = {
    BY_CLASS: Accuracies,
    "ece": Accuracy,
    "brier": Annotated[float, msgspec.Meta(ge=0, le=2)],
    "nll": Annotated[float, msgspec.Meta(ge=0)],
    CONFUSION: list[list[Count]],
}
"""The details with their types.

Accuracies by class, expected calibration error, Brier score, negative log-likelihood, and the confusion matrix, whose
rows are labels.
"""

_NAME = re.compile(rf"env\d+_(?:in|out|test)_({'|'.join(DETAILS)})")


def detail_name(environment: int, part: str, detail: str) -> str:
    """The name of a detail in a record; the part is in, out or test."""
    return f"env{environment}_{part}_{detail}"


def detail_type(name: str) -> Any:
    """The type of the detail with this name in a record, or None for another name."""
    found = _NAME.fullmatch(name)
    return DETAILS[found[1]] if found else None


def type_problem(value: Any, kind: Any) -> str:
    """Why a value is not of a type, in words, or ""."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""
