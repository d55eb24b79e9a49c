"""Writes metric families as text that OpenMetrics and Prometheus' own format both read. Pure.

So there are only counters, gauges and histograms: Prometheus' text format, which node_exporter
reads files in, knows no others of OpenMetrics.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Kind(StrEnum):
    """The type of a family."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric without its samples.

    Attributes:
        name: The family's; a counter's samples have `_total` behind it.
        kind: Its type.
        help: What it is, in a line.
        labels: Names of its labels, apart from `le`.
        unit: The end of its name, "bytes" or "seconds"; empty: it has none.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def sample_name(self) -> str:
        """Return the name in queries; of a histogram, that of its buckets."""
        ends = {Kind.COUNTER: "_total", Kind.GAUGE: "", Kind.HISTOGRAM: "_bucket"}
        return self.name + ends[self.kind]


@dataclass(frozen=True, slots=True)
class Histogram:
    """The value of a histogram's sample.

    Attributes:
        buckets: Upper bound → how many are at most that, in ascending order; without infinity.
        count: How many there are.
        sum: Of all.
    """

    buckets: Mapping[float, int]
    count: int
    sum: float


@dataclass(slots=True)
class Samples:
    """A family with its samples: values of its labels → value."""

    family: Family
    values: dict[tuple[str, ...], float | Histogram] = field(default_factory=dict)

    def set(self, value: float | Histogram | None, *labels: str) -> None:
        """Set the value for these labels; None: there is none."""
        if value is not None:
            self.values[labels] = value


def render(families: Iterable[Samples]) -> str:
    """Return families as text. One without samples is left out."""
    lines = [line for samples in families if samples.values for line in _lines(samples)]
    return "\n".join([*lines, "# EOF", ""])


def flat(families: Iterable[Samples]) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield each sample as its name, labels and value; a histogram has several."""
    for samples in families:
        family = samples.family
        for values, value in samples.values.items():
            labels = dict(zip(family.labels, values, strict=True))
            if isinstance(value, Histogram):
                yield from _histogram(family.name, labels, value)
            else:
                yield family.sample_name, labels, value


def _lines(samples: Samples) -> Iterator[str]:
    family = samples.family
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {_escape(family.help)}"
    for name, labels, value in flat([samples]):
        yield f"{name}{_braces(labels)} {_number(value)}"


def _histogram(
    name: str, labels: dict[str, str], value: Histogram
) -> Iterator[tuple[str, dict[str, str], float]]:
    for bound, count in value.buckets.items():
        yield f"{name}_bucket", {**labels, "le": _number(bound)}, count
    yield f"{name}_bucket", {**labels, "le": "+Inf"}, value.count
    yield f"{name}_count", labels, value.count
    yield f"{name}_sum", labels, value.sum


def _braces(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escape(value, True)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escape(text: str, quoted: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped


def _number(value: float) -> str:
    """Return a number as both formats write it."""
    return str(int(value)) if isinstance(value, int) else repr(float(value))
