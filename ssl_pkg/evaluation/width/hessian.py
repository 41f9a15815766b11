"""Largest eigenvalues and trace of the Hessian H of the loss at the weights.

None of them is invariant to a rescaling of the weights. They are nan if a second derivative is not finite.
"""

import math

import numpy as np
import torch

from ssl_pkg.evaluation.width.noise import Interval, gaussian, generator, mean_interval
from ssl_pkg.evaluation.width.perturb import Objective

EIGENVALUES = 3


def top_eigenvalues(objective: Objective, steps: int, seed: int) -> tuple[Interval, ...]:
    """The EIGENVALUES largest eigenvalues of H (nats per squared weight), the largest first, by `steps` of Lanczos.

    Lanczos (1950) with full reorthogonalisation. In the orthonormal basis V of the vectors v, Hv, H^2 v, ..., with v
    standard normal, the matrix T = V^T H V is tridiagonal. Its i-th largest eigenvalue theta_i is never above that of H
    (Cauchy's interlacing). The interval is theta_i -/+ r_i with the residual r_i = ||H V s_i - theta_i V s_i||
    = beta |s_i,m|, where s_i is the eigenvector of T: up to rounding, H certainly has an eigenvalue in it (Parlett, The
    Symmetric Eigenvalue Problem, theorem 4.5.1). It is no confidence interval. A product costs two backward passes. An
    eigenvalue is nan if the Krylov space has too few dimensions for it.
    """
    noise = gaussian(objective.weights, seed, "lanczos")
    basis = [noise / noise.norm()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for _ in range(min(steps, len(noise))):
        product = objective.hessian_product(basis[-1])
        if not product.isfinite().all():
            return (Interval(math.nan),) * EIGENVALUES
        diagonal.append(torch.dot(product, basis[-1]).item())
        for known in basis * 2:  # twice, because rounding errors remain after one pass
            product -= torch.dot(product, known) * known
        off_diagonal.append(product.norm().item())
        if off_diagonal[-1] <= 1e-5 * max(map(abs, diagonal)):  # the Krylov space is exhausted up to rounding
            break
        basis.append(product / off_diagonal[-1])
    tridiagonal = np.diag(diagonal) + np.diag(off_diagonal[:-1], 1) + np.diag(off_diagonal[:-1], -1)
    if not np.isfinite(tridiagonal).all():
        return (Interval(math.nan),) * EIGENVALUES
    values, vectors = np.linalg.eigh(tridiagonal)
    residuals = off_diagonal[-1] * np.abs(vectors[-1])
    found = [
        Interval(float(value), float(value - residual), float(value + residual))
        for value, residual in zip(values[::-1], residuals[::-1], strict=True)
    ]
    lacking = Interval(math.nan, reason=f"the Krylov space of the start vector has only {len(found)} dimensions")
    return tuple([*found, *[lacking] * EIGENVALUES][:EIGENVALUES])


def trace(objective: Objective, draws: int, seed: int) -> Interval:
    """The trace of H (nats per squared weight): the mean of z^T H z over `draws` vectors z of random signs.

    Hutchinson (1990): E z^T H z = tr H. With random signs (Rademacher) the variance is 2 sum_{i != j} H_ij^2, less than
    with normal z. An estimate can be negative although the trace is positive, if the draws are few.
    """
    estimates = []
    for draw in range(draws):
        bits = torch.randint(2, objective.weights.shape, generator=generator(seed, "hutchinson", draw))
        signs = (2 * bits - 1).to(objective.weights)
        estimates.append(torch.dot(signs, objective.hessian_product(signs)).item())
    return mean_interval(estimates)
