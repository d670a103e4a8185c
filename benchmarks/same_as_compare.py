"""Comparison of two records of ``same_as.py``, bit for bit."""

import re
from dataclasses import dataclass, field

import numpy as np

Values = dict[str, np.ndarray]


@dataclass
class Comparison:
    """
    Differences between two records.

    :param n_names: number of names in either of them
    :param differing: the difference for each name with another value, or missing in the newer record
    :param added: names that only the newer record has
    """

    n_names: int
    differing: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)

    def is_same(self, allow_added: bool = False) -> bool:
        """
        Whether the records count as the same.

        :param allow_added: whether the newer one may have names that the older one lacks
        """
        return not self.differing and (allow_added or not self.added)

    def report(self) -> str:
        """The differences in one line: the first one in full, and their number."""
        if self.differing:
            name, what = next(iter(self.differing.items()))
            return f"differs in {len(self.differing)} of {self.n_names} names{self._also_added()}, first {name}{what}"
        return f"has {len(self.added)} names more: {self.added_names()}"

    def _also_added(self) -> str:
        return f" and has {len(self.added)} more" if self.added else ""

    def added_names(self) -> str:
        """The added names, each once for all dumps of the log."""
        return ", ".join(dict.fromkeys(re.sub(r"(^|/)log/\d+/", r"\1log/*/", name) for name in self.added))


def compare(here: Values, there: Values) -> Comparison:
    """
    Compare two records name by name.

    :param here: of the newer code
    :param there: of the older code; differences come in the order of its names
    """
    comparison = Comparison(len(here.keys() | there.keys()), added=[name for name in here if name not in there])
    for name, old in there.items():
        what = _difference(here[name], old) if name in here else f": missing here, {_shown(old)} there"
        if what:
            comparison.differing[name] = what
    return comparison


def _difference(new: np.ndarray, old: np.ndarray) -> str:
    """The difference, with both values; empty if there is none. A NaN equals any NaN, 0.0 does not equal -0.0."""
    if new.dtype.kind != "U" and (new.dtype, new.shape) != (old.dtype, old.shape):
        return f": {new.dtype} {list(new.shape)} here, {old.dtype} {list(old.shape)} there"
    differing = np.atleast_1d(_differs(new, old))
    if not differing.any():
        return ""
    if new.ndim == 0:
        return f": {_shown(new)} here, {_shown(old)} there"
    place = tuple(int(index) for index in np.argwhere(differing)[0])
    values = f"{_shown(new[place])} here, {_shown(old[place])} there"
    return f"{list(place)}: {values} ({int(differing.sum())} of {new.size} entries)"


def _differs(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Which entries differ; for texts, whether they do."""
    if new.dtype.kind == "U" or old.dtype.kind == "U":
        return np.asarray(new.dtype.kind != old.dtype.kind or new.shape != old.shape or (new != old).any())
    if new.dtype.kind != "f":
        return new != old
    bits = f"u{new.dtype.itemsize}"
    return (np.ascontiguousarray(new).view(bits) != np.ascontiguousarray(old).view(bits)) & ~(np.isnan(new) & np.isnan(old))


def _shown(value: np.ndarray) -> str:
    """All digits of a number, the beginning of a text, the shape of an array."""
    if value.ndim:
        return f"{value.dtype} {list(value.shape)}"
    text = repr(value.item()) if value.dtype.kind == "U" else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
