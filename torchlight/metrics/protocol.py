"""Retrieval protocols as data: who asks, who answers, which pairs do not count, and how the answers are averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from torchlight.arrays import check_distinct

# The role of a sample in a protocol.
NEITHER, PROBE, GALLERY, BOTH = -1, 0, 1, 2
# What becomes of a probe that nobody in the gallery matches: out of every mean and counted, or a failure in every mean.
Unmatched = Literal["left_out", "missed"]

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class SampleTable:
    """What is known of N samples without any network: whom they show and how they were taken.

    Args:
        columns: integers per sample, such as ``camera``, ``condition``, ``sequence``; -1 is unknown.
        column_names: for columns of codes, what code 0, 1, ... stands for.

    Shapes:
        sample_id: N names, all different
        identity: (N,) int64, -1 where it is unknown
        identity_names: one per identity, or none
        columns: name -> (N,) int64
    """

    sample_id: tuple[str, ...]
    identity: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    identity_names: tuple[str, ...] = ()
    column_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_distinct("samples", self.sample_id)
        if "identity" in self.columns or "sample" in self.columns:
            raise ValueError("samples: got a column named identity or sample, expected another name; these are given")
        for name, value in {"identity": self.identity, **self.columns}.items():
            names = self.identity_names if name == "identity" else self.column_names.get(name, ())
            if value.shape != (len(self.sample_id),) or value.dtype != np.int64 or (len(value) and value.min() < -1):
                raise ValueError(
                    f"samples: got {name} {value.dtype} {value.shape} from {value.min() if value.size else 'none'}, "
                    f"expected int64 ({len(self.sample_id)},) from -1"
                )
            if names and len(value) and value.max() >= len(names):
                raise ValueError(f"samples: got {name} {value.max()}, expected below {len(names)}, one per name")
        if surplus := sorted(self.column_names.keys() - self.columns.keys()):
            raise ValueError(f"samples: got names for {', '.join(surplus)}, expected them for columns that are there")

    def __len__(self) -> int:
        return len(self.sample_id)

    def column(self, name: str) -> NDArray[np.int64]:
        """(N,) a column; ``identity`` and ``sample`` (each sample its own) are columns too."""
        if name == "sample":
            return np.arange(len(self))
        if name != "identity" and name not in self.columns:
            raise ValueError(f"samples: got no column {name!r}, expected one of {', '.join(sorted(self.columns))}")
        return self.identity if name == "identity" else self.columns[name]

    def value_name(self, column: str, code: int) -> str:
        """What a code of a column stands for."""
        names = self.identity_names if column == "identity" else self.column_names.get(column, ())
        return names[code] if 0 <= code < len(names) else str(code)

    def take(self, rows: Rows) -> "SampleTable":
        """These samples, in this order."""
        return SampleTable(
            sample_id=tuple(self.sample_id[row] for row in rows),
            identity=self.identity[rows],
            columns={name: value[rows] for name, value in self.columns.items()},
            identity_names=self.identity_names,
            column_names=self.column_names,
        )


@dataclass(frozen=True, eq=False)
class RetrievalProtocol:
    """One way to ask a gallery who a probe is.

    A pair matches when both identities are known and equal. A sample is never compared with itself.

    Args:
        exclude: sets of columns. A pair that agrees in every column of one set is not compared: ``(("camera",),)``
            leaves out every pair of one camera, ``(("identity", "camera"),)`` its matches (the junk of person
            re-identification). Unknown values agree with nothing.
        groups: column of the probes whose values are reported apart, as the clothing of CASIA-B; the headline is the
            mean over all of their cells.
        cells: column by which the gallery is divided: each of its values is a gallery of its own, which every probe is
            held against, "unknown" being one of them. A result is then the mean over cells (probe value, gallery
            value), as in cross-view tables.

    Shapes:
        role: (N,) int8 of ``NEITHER``, ``PROBE``, ``GALLERY``, ``BOTH``
    """

    name: str
    role: NDArray[np.int8]
    exclude: tuple[tuple[str, ...], ...] = ()
    groups: str = ""
    cells: str = ""
    unmatched: Unmatched = "left_out"

    def __post_init__(self) -> None:
        if self.role.dtype != np.int8 or self.role.ndim != 1 or not np.isin(self.role, (-1, 0, 1, 2)).all():
            raise ValueError(
                f"{self.name}: got roles {self.role.dtype} {self.role.shape}, expected int8 (N,) of -1, 0, 1 and 2"
            )
        if self.unmatched not in get_args(Unmatched):
            raise ValueError(f"{self.name}: got unmatched {self.unmatched!r}, expected one of {get_args(Unmatched)}")
        if not self.name or "/" in self.name:
            raise ValueError(f"protocol: got the name {self.name!r}, expected one without a slash")

    @property
    def probes(self) -> Rows:
        """Rows of the samples that ask."""
        return np.flatnonzero((self.role == PROBE) | (self.role == BOTH))

    @property
    def gallery(self) -> Rows:
        """Rows of the samples that are searched."""
        return np.flatnonzero(self.role >= GALLERY)

    def rules(self) -> dict[str, Any]:
        """All but the roles, as plain data."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "role"}

    def take(self, rows: Rows) -> "RetrievalProtocol":
        """The same of these samples, in this order."""
        return replace(self, role=self.role[rows])

    def exclusions(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns in which a pair that is not compared agrees, its own self among them."""
        return (("sample",), *self.exclude)

    def is_excluded(self, table: SampleTable, probe: Rows, gallery: Rows) -> NDArray[np.bool_]:
        """(n,) whether pairs of rows are not compared."""
        is_out = np.zeros(len(probe), dtype=np.bool_)
        for columns in self.exclusions():
            agree = np.ones(len(probe), dtype=np.bool_)
            for name in columns:
                value = table.column(name)
                agree &= (value[probe] == value[gallery]) & (value[probe] >= 0)
            is_out |= agree
        return is_out


def roles(is_probe: NDArray[np.bool_], is_gallery: NDArray[np.bool_]) -> NDArray[np.int8]:
    """(N,) roles of samples that ask, are searched, or both."""
    return np.select([is_probe & is_gallery, is_probe, is_gallery], [BOTH, PROBE, GALLERY], NEITHER).astype(np.int8)


class Agreeing:
    """Which gallery samples agree with each probe in all of some columns.

    The gallery is sorted once; asking for the pairs of some probes costs what it answers.
    """

    def __init__(self, table: SampleTable, columns: Sequence[str], probe: Rows, gallery: Rows) -> None:
        code, is_known = np.zeros(len(table), dtype=np.int64), np.ones(len(table), dtype=np.bool_)
        for name in columns:
            value = table.column(name)
            code = np.unique(code * (value.max(initial=0) + 1) + value, return_inverse=True)[1]
            is_known &= value >= 0
        self._order = np.argsort(code[gallery], kind="stable")
        self._order = self._order[is_known[gallery[self._order]]]
        in_order = code[gallery[self._order]]
        self._begin = np.searchsorted(in_order, code[probe], side="left")
        end = np.searchsorted(in_order, code[probe], side="right")
        self._count = np.where(is_known[probe], end - self._begin, 0)

    def pairs(self, start: int, stop: int) -> tuple[Rows, Rows]:
        """(n,) places of probes, from 0 at ``start``, and (n,) places in the gallery; rising in the probes."""
        begin, count = self._begin[start:stop], self._count[start:stop]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(np.arange(len(count)), count), self._order[np.repeat(begin, count) + within]
