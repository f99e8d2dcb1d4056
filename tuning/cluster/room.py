"""Room for trials on a cluster whose nodes come and go: how many fit now, and more is asked for where it grows."""

from collections.abc import Mapping

from tuning.cluster.resources import request, slots


class Room:
    """How many trials fit the cluster as it is; one that grows is told how many there is work for.

    Args:
        asked: CPUs and GPUs of a trial.
        is_ours: whether this process started the cluster, which then has one node for good.
    """

    def __init__(self, asked: Mapping[str, float], *, is_ours: bool):
        self.asked, self.is_ours = dict(asked), is_ours
        self._requested = 0

    def look(self, wanted: int) -> int:
        """Trials that fit now.

        Args:
            wanted: trials that could run at once, were there room.
        """
        self._request(wanted)
        return slots(self.asked)

    def close(self) -> None:
        """Asks for nothing more: nodes without work may go."""
        self._request(0)

    def _request(self, wanted: int) -> None:
        if wanted != self._requested and not self.is_ours:
            request(self.asked, wanted)
            self._requested = wanted
