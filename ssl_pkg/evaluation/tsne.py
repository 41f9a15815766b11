"""t-SNE maps of embeddings (van der Maaten and Hinton 2008), by scikit-learn."""

from collections.abc import Callable
from typing import Final

import numpy as np
from sklearn.manifold import TSNE

from ssl_pkg.evaluation.accuracy import not_finite
from ssl_pkg.evaluation.forward import Array

FRAME_ITERATIONS = 300
ROUNDING: Final = 1e-6  # relative: embeddings that differ by less are equal up to rounding
MODERATE: Final = (1e-6, 1e6)  # range of spreads whose squares neither underflow nor overflow in float32


def unmappable(embeddings: Array) -> str | None:
    """The reason why embeddings (n, D) can't be mapped; None if they can. scikit-learn crashes on equal embeddings."""
    if reason := not_finite("embeddings", embeddings):
        return reason
    if np.ptp(embeddings.astype(np.float64), axis=0).max() <= ROUNDING * np.abs(embeddings).max():
        return "all embeddings are equal: the model has collapsed"
    return None


def tsne(embeddings: Array, perplexity: float, seed: int) -> Array:
    """A map (n, 2) of embeddings (n, D), initialised with their first two principal components.

    `unmappable(embeddings)` must be None.
    """
    model = TSNE(perplexity=_possible(perplexity, len(embeddings)), init="pca", random_state=seed)
    return np.asarray(model.fit_transform(_moderate(embeddings)), dtype=np.float32)


def aligned_frames(frames: Array, perplexity: float, seed: int, on_frame: Callable[[int, int], None]) -> Array:
    """Maps (K, n, 2) of the embeddings (K, n, D) of the same n samples at K steps of a training.

    Each map is initialised with the previous one, so that a point moves only if its neighbours change. Early
    exaggeration is off, because it would tear the previous map apart. `unmappable(frame)` must be None for every frame.
    on_frame(done, total) is called before each map.
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
    """The perplexity, at most a third of the samples, because t-SNE needs several times more samples than that."""
    return min(perplexity, (count - 1) / 3)


def _moderate(embeddings: Array) -> Array:
    """The embeddings, rescaled if their squared distances would not fit float32. A map does not depend on the scale."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    largest = np.abs(centred).max()
    low, high = MODERATE
    return embeddings if low < largest < high else (centred / largest).astype(np.float32)
