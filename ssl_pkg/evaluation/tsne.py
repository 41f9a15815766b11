"""t-SNE maps of embeddings (van der Maaten and Hinton 2008) by openTSNE, and their figures of merit."""

from collections.abc import Callable
from typing import Final

import numpy as np
from openTSNE import TSNEEmbedding
from openTSNE.affinity import PerplexityBasedNN
from openTSNE.initialization import pca
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from ssl_pkg.data.images import Indices
from ssl_pkg.evaluation.accuracy import not_finite, proportion
from ssl_pkg.evaluation.forward import Array
from ssl_pkg.rows import Row

# With early exaggeration, then without. openTSNE's defaults, 250 and 500 iterations, take 1.4 times as long. On 13,000
# embeddings of a random network and on 13,000 points in ten clusters, the divergence was 1.4 and 0.5 % lower with them,
# and the trustworthiness with 15 neighbours the same up to .001.
EARLY_ITERATIONS: Final = 125
ITERATIONS: Final = 400
EXAGGERATION: Final = 12.0
MOMENTUM: Final = 0.8
FRAME_ITERATIONS: Final = 300
PARALLEL_FROM: Final = 2000  # samples: the iterations of fewer are so short that several threads would wait
SMALLEST_MAP: Final = 4  # samples: fewer have a perplexity below 1
ROUNDING: Final = 1e-6  # relative: embeddings that differ by less are equal up to rounding
MODERATE: Final = (1e-6, 1e6)  # range of spreads whose squares neither underflow nor overflow in float32

OnIteration = Callable[[int, int], None]  # gets the number of finished iterations, and their total


def perplexity_for(count: int) -> float:
    """The perplexity of a map of `count` samples: n/100, but at least 30 and at most (n − 1)/3.

    Kobak and Berens (The art of using t-SNE for single-cell transcriptomics, 2019) recommend 30 for local structure and
    n/100 for global structure. The maximum is that of t-SNE's implementations, which look at 3·perplexity neighbours.
    """
    return min(max(30.0, count / 100), (count - 1) / 3)


def unmappable(embeddings: Array) -> str | None:
    """The reason why embeddings (n, D) can't be mapped; None if they can."""
    if reason := not_finite("embeddings", embeddings):
        return reason
    if len(embeddings) < SMALLEST_MAP:
        return f"a map needs at least {SMALLEST_MAP} images"
    if np.ptp(embeddings.astype(np.float64), axis=0).max() <= ROUNDING * np.abs(embeddings).max():
        return "all embeddings are equal: the model has collapsed"
    return None


def tsne(embeddings: Array, seed: int, threads: int, on_iteration: OnIteration = lambda done, total: None) -> Array:
    """A map (n, 2) of embeddings (n, D), initialised with their first two principal components.

    `unmappable(embeddings)` must be None. The map does not depend on the number of threads. on_iteration is called
    every 50 iterations of both phases.

    13,000 × 512 embeddings of photographs with perplexity 130 take 40 s of CPU time, 23 s with two threads.
    """
    moderate = _moderate(embeddings)
    embedding = _optimizable(pca(moderate, random_state=seed), moderate, seed, threads)
    total = EARLY_ITERATIONS + ITERATIONS

    def report(offset: int) -> Callable[[int, float, Array], None]:
        return lambda iteration, error, points: on_iteration(offset + iteration, total)

    embedding.optimize(
        EARLY_ITERATIONS, exaggeration=EXAGGERATION, momentum=MOMENTUM, inplace=True, callbacks=[report(0)]
    )
    embedding.optimize(ITERATIONS, momentum=MOMENTUM, inplace=True, callbacks=[report(EARLY_ITERATIONS)])
    return np.asarray(embedding, dtype=np.float32)


def aligned_frames(frames: Array, seed: int, threads: int, on_frame: OnIteration) -> Array:
    """Maps (K, n, 2) of the embeddings (K, n, D) of the same n samples at K steps of a training.

    Each map is initialised with the previous one, so that a point moves only if its neighbours change. Early
    exaggeration is off, because it would tear the previous map apart. `unmappable(frame)` must be None for every frame.
    on_frame(done, total) is called before each map.
    """
    on_frame(0, len(frames))
    maps = [tsne(frames[0], seed, threads)]
    for number, frame in enumerate(frames[1:], start=1):
        on_frame(number, len(frames))
        embedding = _optimizable(maps[-1].astype(np.float64), _moderate(frame), seed, threads)
        embedding.optimize(FRAME_ITERATIONS, momentum=MOMENTUM, inplace=True)
        maps.append(np.asarray(embedding, dtype=np.float32))
    return np.stack(maps)


def _optimizable(start: Array, embeddings: Array, seed: int, threads: int) -> TSNEEmbedding:
    """openTSNE's embedding with the affinities of exact nearest neighbours, before the first iteration."""
    threads = threads if len(embeddings) >= PARALLEL_FROM else 1
    affinities = PerplexityBasedNN(
        embeddings, perplexity=perplexity_for(len(embeddings)), method="exact", n_jobs=threads, random_state=seed
    )
    return TSNEEmbedding(start, affinities, n_jobs=threads, random_state=seed)


def trustworthiness(embeddings: Array, points: Array, neighbours: int) -> float:
    """How far neighbours on the map are neighbours in the embedding, from 0 to 1 (Venna and Kaski 2001).

        T(k) = 1 − 2/(nk(2n − 3k − 1)) Σ_i Σ_{j ∈ U_k(i)} (r(i, j) − k)

    U_k(i): those of the k nearest points of i on the map that are not among its k nearest embeddings. r(i, j): the rank
    of j by its distance from i among the embeddings, from 1. scikit-learn's function has the same value, but holds a
    matrix of n × n ranks, which is 2.7 GB for STL-10's 13,000 images.

    embeddings: (n, D). points: (n, 2), the map. neighbours: k, below n/2.
    """
    count = len(embeddings)
    near = NearestNeighbors(n_neighbors=neighbours).fit(points).kneighbors(return_distance=False)
    excess, start = 0, 0
    for distances in pairwise_distances_chunked(_moderate(embeddings), working_memory=64):
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        of_neighbours = np.take_along_axis(distances, near[start : start + len(distances)], axis=1)
        for column in of_neighbours.T:
            rank = 1 + (distances < column[:, None]).sum(axis=1)
            excess += int(np.maximum(rank - neighbours, 0).sum())
        start += len(distances)
    return 1 - 2 * excess / (count * neighbours * (2 * count - 3 * neighbours - 1))


def map_accuracy(train: Array, train_labels: Indices, test: Array, test_labels: Indices, neighbours: int) -> Row:
    """The accuracy on test of the majority of the nearest train points on a joint map.

    train: (n, 2). test: (m, 2). The map is made without labels, but with the test images.
    """
    classifier = KNeighborsClassifier(n_neighbors=min(neighbours, len(train))).fit(train, train_labels)
    return proportion("tsne", "knn_accuracy", classifier.predict(test) == test_labels)


def _moderate(embeddings: Array) -> Array:
    """The embeddings, rescaled if their squared distances would not fit float32. A map does not depend on the scale."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    largest = np.abs(centred).max()
    low, high = MODERATE
    return embeddings if low < largest < high else (centred / largest).astype(np.float32)
