"""Numbers of alternating rounds, and what is made of them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass
class Samples:
    """The measurements of one candidate, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    def of_rounds(self, share: float) -> list[float]:
        """This quantile of each round."""
        return [quantile(one, share) for one in self.rounds]

    def summary(self) -> dict[str, float]:
        """p10 (the calm machine) and p50: medians of the rounds; p99: of all together."""
        together = [value for one in self.rounds for value in one]
        return {
            "p10": median(self.of_rounds(0.1)),
            "p50": median(self.of_rounds(0.5)),
            "p99": quantile(together, 0.99),
        }


def ratio(one: Samples, others: list[Samples], share: float = 0.5) -> float:
    """How often `one` takes what the others take together: the median of the rounds' ratios.

    Each round is compared with itself, so that a machine that gets slower meanwhile (others
    work on it too) does not count for one side only.
    """
    rounds = zip(one.of_rounds(share), *(other.of_rounds(share) for other in others), strict=True)
    return median([float(mine / sum(theirs)) for mine, *theirs in rounds])
