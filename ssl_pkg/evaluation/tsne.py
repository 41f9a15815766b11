"""t-SNE maps of embeddings (van der Maaten and Hinton 2008), by scikit-learn."""

from collections.abc import Callable

import numpy as np
from sklearn.manifold import TSNE

from ssl_pkg.evaluation.forward import Array

FRAME_ITERATIONS = 300


def tsne(embeddings: Array, perplexity: float, seed: int) -> Array:
    """A map (n, 2) of embeddings (n, D), started from their first two principal components."""
    model = TSNE(perplexity=_possible(perplexity, len(embeddings)), init="pca", random_state=seed)
    return np.asarray(model.fit_transform(embeddings), dtype=np.float32)


def aligned_frames(frames: Array, perplexity: float, seed: int, on_frame: Callable[[int, int], None]) -> Array:
    """Maps (K, n, 2) of the same samples at K moments, embeddings (K, n, D): each starts from the one before.

    So a point moves only as far as its neighbours changed. Without early exaggeration, which would tear the map apart.
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
        maps.append(np.asarray(model.fit_transform(frame), dtype=np.float32))
    return np.stack(maps)


def _possible(perplexity: float, count: int) -> float:
    """t-SNE needs several times more samples than the perplexity."""
    return min(perplexity, (count - 1) / 3)
