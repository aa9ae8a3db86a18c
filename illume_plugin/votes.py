"""What all annotators together said of one wording on one task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from illume_plugin.examples import MAX_STARS
from illume_plugin.identity import wording
from illume_plugin.types import Preference, Verdict


@dataclass(slots=True)
class Votes:
    """The votes on one wording: one for each annotation that holds it."""

    fits: int = 0
    unfits: int = 0
    bests: int = 0
    stars: list[float] = field(default_factory=list)
    spellings: dict[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The spelling that was judged most often, of equals the first in order of text."""
        return min(self.spellings, key=lambda spelling: (-self.spellings[spelling], spelling))

    @property
    def accepted(self) -> bool:
        """Whether more annotations say that it fits than that it does not."""
        return self.fits > self.unfits

    @property
    def refused(self) -> bool:
        """Whether more annotations say that it does not fit than that it does."""
        return self.unfits > self.fits

    @property
    def fit_share(self) -> float:
        """Share of annotations that say that it fits."""
        return self.fits / (self.fits + self.unfits)

    @property
    def agreement(self) -> float:
        """Share of annotations on the side of the majority."""
        return max(self.fit_share, 1 - self.fit_share)

    @property
    def mean_stars(self) -> float | None:
        """Mean of the stars that were given, from 1 to 4; None where nobody gave any."""
        return fmean(self.stars) if self.stars else None

    @property
    def score(self) -> float | None:
        """Mean stars; without any, 4 for what is accepted and 1 for what is refused (DRESS, our reading).

        None where nobody gave stars and the votes are even.
        """
        if self.stars:
            return fmean(self.stars)
        if self.fits == self.unfits:
            return None
        return float(MAX_STARS) if self.accepted else 1.0


#: Wording -> its votes, for the wordings of one task.
TaskVotes = Mapping[str, Votes]


def count_votes(preferences: Iterable[Preference]) -> Mapping[int, TaskVotes]:
    """Task id -> wording -> votes. A preference that is given twice counts once."""
    votes: dict[int, dict[str, Votes]] = {}
    for preference in set(preferences):
        of_task = votes.setdefault(preference.task_id, {})
        said = wording(preference.text)
        counted = of_task.get(said) or of_task.setdefault(said, Votes())
        counted.spellings[preference.text] = counted.spellings.get(preference.text, 0) + 1
        counted.bests += preference.best
        if preference.verdict is Verdict.FITS:
            counted.fits += 1
        else:
            counted.unfits += 1
        if given := stars_given(preference):
            counted.stars.append(fmean(given))
    return votes


def by_task(preferences: Iterable[Preference]) -> Mapping[int, Sequence[Preference]]:
    """Task id -> its preferences, for those tasks that have any."""
    found: dict[int, list[Preference]] = {}
    for preference in preferences:
        found.setdefault(preference.task_id, []).append(preference)
    return found


def stars_given(preference: Preference) -> list[int]:
    """The stars of one preference, over the dimensions that were rated."""
    rated = (preference.helpful, preference.honest, preference.harmless)
    return [stars for stars in rated if stars is not None]
