"""The totals of the calls that workers have counted, and of deaths. Pure.

Totals begin with the supervisor's process: a worker sends what was added since its last heartbeat,
so nothing is counted twice, and what a crash took away is at most its last second. Times are
monotonic seconds.
"""

from array import array
from collections.abc import Callable

import msgspec

from garrison.ipc.call_counts import BOUNDS_S, BUCKETS, OTHER, OUTCOMES, is_listed
from garrison.ipc.call_totals import CallerReport, CallTotals, DeathTotal, Totals
from garrison.ipc.messages import CallCount, Manifest

ROWS_MOST = 4096  # of the host, each of half a kilobyte; later ones share one row a caller


class Counters:
    """All totals of a host.

    Args:
        manifest_of: Returns what a service offers; None: it is not configured.
        since: When counting begins.

    Attributes:
        direct_pairs: Returns the pairs that have a direct route.
    """

    def __init__(self, manifest_of: Callable[[str], Manifest | None], since: float) -> None:
        self._manifest_of, self._since = manifest_of, since
        self.direct_pairs: Callable[[], list[tuple[str, str]]] = list
        self._rows: dict[tuple[str, str, str], array[int]] = {}
        self._callers: dict[str, CallerReport] = {}
        self._deaths: dict[tuple[str, str], int] = {}  # NAME and kind of the crash report

    def add(
        self, caller: str, counts: tuple[CallCount, ...], awaiting: dict[str, int], now: float
    ) -> None:
        """Add what a heartbeat reports.

        Args:
            caller: NAME of the service that has made the calls.
            counts: Calls that ended since its last heartbeat.
            awaiting: Calls that have not ended.
            now: When it arrived.
        """
        known = {name: most for name, most in awaiting.items() if self._manifest_of(name)}
        self._callers[caller] = CallerReport(now, known)
        for count in counts:
            self._add(self._row(caller, count.service, count.method), count)

    def add_death(self, service: str, kind: str) -> None:
        """Count an end that was not ordered."""
        self._deaths[service, kind] = self._deaths.get((service, kind), 0) + 1

    def ended(self, caller: str) -> None:
        """Note that a caller's process has ended, and with it the calls that it awaited."""
        if (report := self._callers.get(caller)) is not None:
            self._callers[caller] = msgspec.structs.replace(report, awaiting={})

    def forget(self, service: str) -> None:
        """Drop the totals of a service that is no longer configured."""
        self._rows = {key: row for key, row in self._rows.items() if service not in key[:2]}
        self._deaths = {key: number for key, number in self._deaths.items() if key[0] != service}
        self._callers.pop(service, None)

    def totals(self, boot: str, now: float) -> Totals:
        """Return everything that was counted so far."""
        ends = len(OUTCOMES)
        return Totals(
            boot=boot,
            since_s=self._since,
            now_s=now,
            outcomes=OUTCOMES,
            bounds_s=BOUNDS_S,
            callers=dict(self._callers),
            calls=tuple(
                CallTotals(*key, tuple(row[:ends]), tuple(row[ends:-1]), row[-1] / 1e6)
                for key, row in self._rows.items()
            ),
            deaths=tuple(DeathTotal(*key, number) for key, number in self._deaths.items()),
            direct=tuple(self.direct_pairs()),
        )

    def _row(self, caller: str, service: str, method: str) -> "array[int]":
        row = self._rows.get((caller, service, method))
        if row is not None:
            return row
        manifest = self._manifest_of(service)
        if manifest is None or len(self._rows) >= ROWS_MOST:
            service = method = OTHER
        elif not is_listed(manifest, method):
            method = OTHER
        key = caller, service, method
        return self._rows.setdefault(key, array("Q", bytes(8 * (len(OUTCOMES) + BUCKETS + 1))))

    @staticmethod
    def _add(row: "array[int]", count: CallCount) -> None:
        for place, number in enumerate(count.outcomes[: len(OUTCOMES)]):
            row[place] += number
        for bucket, number in count.buckets.items():
            if 0 <= bucket < BUCKETS:
                row[len(OUTCOMES) + bucket] += number
        row[-1] += count.micros
