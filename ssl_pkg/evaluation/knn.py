"""Weighted k-nearest-neighbour classification of embeddings (Wu et al. 1805.01978, section 3.4)."""

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_pkg.config.stage_settings import Pretrain
from ssl_pkg.data.images import Indices
from ssl_pkg.evaluation.accuracy import not_finite, proportion
from ssl_pkg.evaluation.forward import Array
from ssl_pkg.rows import Row, unmeasured

LARGE: Final = 1e15  # below the square root of float32's maximum, 1.8e19, with room for the sum of squares


def knn_predict(bank: Array, bank_labels: Indices, queries: Array, neighbours: int, temperature: float) -> Indices:
    """The predicted class (m,) of each query.

    The `neighbours` entries of the bank with the highest cosine similarity vote, each with the weight
    exp(cosine / temperature). bank: (n, D). bank_labels: (n,). queries: (m, D). All values are finite.
    """
    keys = _unit(torch.from_numpy(bank))
    labels = torch.from_numpy(bank_labels)
    classes = int(labels.max()) + 1
    predictions = []
    for part in torch.split(torch.from_numpy(queries), 1024):
        similarity, nearest = (_unit(part) @ keys.T).topk(min(neighbours, len(keys)), dim=1)
        # Relative to the nearest entry, because exp(1 / temperature) overflows float32 below a temperature of .0113.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = torch.zeros(len(part), classes).scatter_add_(1, labels[nearest], weights)
        predictions.append(votes.argmax(dim=1))
    result: Indices = torch.cat(predictions).numpy()
    return result


def knn_row(
    evaluation: str, bank: Array, bank_labels: Indices, queries: Array, labels: Indices, *, config: Pretrain
) -> Row:
    """The accuracy of `knn_predict` on the queries with these labels (m,); unmeasured if a value is not finite."""
    if reason := not_finite("embeddings", np.concatenate([bank, queries])):
        return unmeasured(evaluation, "accuracy", len(labels), reason)
    predicted = knn_predict(bank, bank_labels, queries, config.knn_neighbours, config.knn_temperature)
    return proportion(evaluation, "accuracy", predicted == labels)


def _unit(vectors: Tensor) -> Tensor:
    """The vectors (n, D) with unit length. Large ones are scaled down first, because their squares overflow float32."""
    largest = vectors.abs().amax(dim=1, keepdim=True)
    return F.normalize(vectors / torch.where(largest > LARGE, largest, 1.0), dim=1)
