"""The metrics of a run's rows that are fractions: between 0 and 1, and shown in percent."""

from typing import Final

_OF_HITS: Final = {  # by metric: whether the number is a share of hits, and not another mean of fractions
    "accuracy": True,
    "accuracy_shared": True,
    "accuracy_masked": True,
    "clean_accuracy": True,
    "mean_accuracy": True,
    "knn_accuracy": True,
    "mean_class_accuracy": False,
    "mean_confidence": False,
}


def is_fraction(metric: str) -> bool:
    """Whether the numbers of a metric are between 0 and 1."""
    return metric in _OF_HITS


def is_share_of_hits(metric: str) -> bool:
    """Whether a number of the metric is the share of images, or of images under conditions, that are classified right.

    Such a number has a binomial interval, and a difference of two can be equivalent to zero.
    """
    return _OF_HITS.get(metric, False)
