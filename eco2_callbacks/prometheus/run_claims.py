"""RunClaims: which of several handlers on one registry counts a run, so that it counts once."""

from __future__ import annotations

from uuid import UUID
from weakref import WeakSet

__all__ = ["RunClaimant", "RunClaims"]


class _Claim:
    """How a claimant holds runs: ``is_below`` where it counts the run above as well."""

    __slots__ = ("claimant", "is_below")

    def __init__(self, claimant: RunClaimant, *, is_below: bool) -> None:
        self.claimant = claimant
        self.is_below = is_below


class RunClaims:
    """The open runs of all handlers on one registry, each with the one that counts it.

    The first handler that sees a run counts it. A handler that counts the run above wins over one that takes the run
    for topmost: it knows the request.

    Without a lock: the handlers of one run see its start one after another, on one thread, and each step is atomic.
    A run whose claim an interrupt cut off counts: only what another handler is known to count does not.
    """

    def __init__(self) -> None:
        # By the integer of the run id: hashing a UUID itself runs Python code.
        self._claims: dict[int, _Claim] = {}
        self._claimants: WeakSet[RunClaimant] = WeakSet()

    def new_claimant(self) -> RunClaimant:
        """Return the claimant of one more handler."""
        claimant = RunClaimant(self._claims)
        self._claimants.add(claimant)
        return claimant

    def clear(self) -> None:
        """Forget all claims, as in a forked child: the parent counts these runs."""
        for claimant in list(self._claimants):
            claimant.forget()
        self._claims.clear()


class RunClaimant:
    """The runs that one handler counts."""

    __slots__ = ("__weakref__", "_above", "_below", "_claims", "_of_others", "_runs")

    def __init__(self, claims: dict[int, _Claim]) -> None:
        self._claims = claims
        self._runs: set[int] = set()
        # Open runs of this handler that another one counts.
        self._of_others: set[int] = set()
        self._above = _Claim(self, is_below=False)
        self._below = _Claim(self, is_below=True)

    def __len__(self) -> int:
        return len(self._runs)

    def claim(self, run_id: UUID, parent_run_id: UUID | None) -> bool:
        """Claim a run that starts; return whether this handler counts it.

        Args:
            run_id: The run.
            parent_run_id: The run above, as far as this handler knows it.
        """
        claim = self._below if parent_run_id is not None and parent_run_id.int in self._runs else self._above
        key = run_id.int
        first = self._claims.setdefault(key, claim)
        if first is not claim:
            if first.claimant is self:
                return True
            if first.is_below or not claim.is_below:
                self._of_others.add(key)
                return False
            self._claims[key] = claim
            first.claimant._give_up(key)
        self._runs.add(key)
        return True

    def holds(self, run_id: UUID) -> bool:
        """Return whether this handler counts an open run."""
        return run_id.int not in self._of_others

    def release(self, run_id: UUID) -> bool:
        """Give up a run that ended; return whether this handler counts it."""
        key = run_id.int
        if key in self._of_others:
            self._of_others.discard(key)
            return False
        self._runs.discard(key)
        if (claim := self._claims.get(key)) is not None and claim.claimant is self:
            del self._claims[key]
        return True

    def release_all(self) -> None:
        """Give up all runs: the handler is gone."""
        for key, claim in list(self._claims.items()):
            if claim.claimant is self:
                self._claims.pop(key, None)
        self.forget()

    def forget(self) -> None:
        """Hold no run any more, without touching the claims."""
        self._runs.clear()
        self._of_others.clear()

    def _give_up(self, key: int) -> None:
        self._of_others.add(key)
        self._runs.discard(key)
