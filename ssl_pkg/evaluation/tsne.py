"""t-SNE maps of embeddings (van der Maaten and Hinton 2008), by scikit-learn."""

from collections.abc import Callable
from typing import Final

import numpy as np
from sklearn.manifold import TSNE

from ssl_pkg.evaluation.accuracy import not_finite
from ssl_pkg.evaluation.forward import Array

FRAME_ITERATIONS = 300
ROUNDING: Final = 1e-6  # embeddings that differ by less than this part of their size are equal up to rounding
MODERATE: Final = (1e-6, 1e6)  # spreads whose squares neither vanish nor overflow in float32


def unmappable(embeddings: Array) -> str | None:
    """The reason why embeddings (n, D) have no map, or None. scikit-learn crashes on equal embeddings."""
    if reason := not_finite("embeddings", embeddings):
        return reason
    if np.ptp(embeddings.astype(np.float64), axis=0).max() <= ROUNDING * np.abs(embeddings).max():
        return "all embeddings are equal: the model has collapsed"
    return None


def tsne(embeddings: Array, perplexity: float, seed: int) -> Array:
    """A map (n, 2) of embeddings (n, D), started from their first two principal components.

    embeddings: such that `unmappable` has no objection.
    """
    model = TSNE(perplexity=_possible(perplexity, len(embeddings)), init="pca", random_state=seed)
    return np.asarray(model.fit_transform(_moderate(embeddings)), dtype=np.float32)


def aligned_frames(frames: Array, perplexity: float, seed: int, on_frame: Callable[[int, int], None]) -> Array:
    """Maps (K, n, 2) of the same samples at K moments, embeddings (K, n, D): each starts from the one before.

    So a point moves only as far as its neighbours changed. Without early exaggeration, which would tear the map apart.
    `unmappable` has no objection to any frame.
    """
    on_frame(0, len(frames))
    maps = [tsne(frames[0], perplexity, seed)]
    for number, frame in enumerate(frames[1:], start=1):
        on_frame(number, len(frames))
        model = TSNE(
            perplexity=_possible(perplexity, len(frame)),
            init=maps[-1],
            early_exaggeration=1.0,
            max_iter=FRAME_ITERATIONS,
            random_state=seed,
        )
        maps.append(np.asarray(model.fit_transform(_moderate(frame)), dtype=np.float32))
    return np.stack(maps)


def _possible(perplexity: float, count: int) -> float:
    """t-SNE needs several times more samples than the perplexity."""
    return min(perplexity, (count - 1) / 3)


def _moderate(embeddings: Array) -> Array:
    """The embeddings at a scale on which squared distances are float32 numbers. A map does not depend on the scale."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    largest = np.abs(centred).max()
    low, high = MODERATE
    return embeddings if low < largest < high else (centred / largest).astype(np.float32)
