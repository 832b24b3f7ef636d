"""The energy of a session that is complete, at any moment and in any order.

To feed all readings of an hour takes seconds, so on the way through the session marks are left behind, each an account
as it stood. An account of any moment goes on from the mark before it, and is the one that would have come of all
readings from the beginning.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from edgetop.core.records import Missing
from edgetop.session.energy_account import EnergyAccount, EnergyAccounts
from edgetop.session.meters import meters_of
from edgetop.session.series import LARGEST
from edgetop.session.session import Session

READINGS_BETWEEN = 512
"""Between two marks, of the meter that is read most often: some milliseconds of work."""
MARKS_AT_MOST = 512
"""A mark takes some kilobytes for each hundred turns."""
NOT_REACHED = Missing("the power readings are still being added up", "wait a moment")


class Checkpoints(EnergyAccounts):
    """The accounts of one session to which nothing is added any more."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.patient = True
        """Whether `at` goes through the readings as far as it must, or says that they are not added up yet."""
        self._moments_us = _moments_us(session)
        self._front = EnergyAccount(session)
        self._front.advance(-LARGEST)
        self._marks = [self._front.mark()]
        self._marks_us = [-LARGEST]
        self._next = 0
        self._pending = _Pending(session)

    @property
    def complete(self) -> bool:
        """Whether all readings were gone through."""
        return self._next == len(self._moments_us)

    def extend(self) -> bool:
        """Go through the readings up to the next mark; false when there are none left."""
        if self.complete:
            return False
        until_us, revision = self._moments_us[self._next], self._front.revision
        self._front.advance(until_us)
        if self._front.revision != revision and self._next:
            self._mark(self._revised(until_us, revision))
        index = self._session.turn_at(until_us)
        if index is not None:
            # What it takes to add up the turns is kept with the mark.
            self._front.turns_together(index + 1)
        self._mark(self._front)
        self._next += 1
        return not self.complete

    def at(self, until_us: int) -> EnergyAccount:
        """See EnergyAccounts."""
        while not self.complete and until_us > self._moments_us[self._next]:
            if not self.patient:
                return self._pending
            self.extend()
        mark = bisect_right(self._marks_us, until_us) - 1
        if mark < 0:
            return self._pending
        if not self._marks_us[mark] <= self._account.until_us <= until_us:
            self._account = self._marks[mark].resumed()
        self._account.advance(until_us)
        return self._account

    def _revised(self, until_us: int, revision: int) -> EnergyAccount:
        """The account at the reading before `until_us` that made it compute all anew, which no seek is to do again."""
        account = self._marks[-1].resumed()
        stamps_us = sorted(
            {
                t_us
                for series in self._session.series.values()
                for t_us in series.t_us[slice(*series.between(self._marks_us[-1], until_us))]
            }
        )
        for t_us in stamps_us:
            account.advance(t_us)
            if account.revision != revision:
                break
        return account

    def _mark(self, account: EnergyAccount) -> None:
        self._marks.append(account.mark())
        self._marks_us.append(account.until_us)


class _Pending(EnergyAccount):
    """Stands where there is no account yet."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.headline = NOT_REACHED


def _moments_us(session: Session) -> array[int]:
    """Where marks are to be: readings of the meter that is read most often."""
    metered = [found[0].t_us for meter in meters_of(session) if (found := session.find_channel(meter.name))]
    if not metered:
        return array("q")
    stamps_us = max(metered, key=len)
    step = max(READINGS_BETWEEN, -(-len(stamps_us) // MARKS_AT_MOST))
    return stamps_us[step - 1 :: step]
