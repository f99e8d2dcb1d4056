"""Scores of a pair that no training on the target is needed for: of features, of answers, and of the source alone."""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

ITERATIONS = 200
"""Steps of the fixed point at most; it usually takes ten."""
TOLERANCE = 1e-9
"""Relative change of α / β at which it has converged."""
WIDEST = 1e12
"""α / β stays within this factor of the largest eigenvalue, either way: beyond, the evidence changes no more."""


def logme(features: Tensor, labels: Tensor) -> float:
    """Log of maximum evidence: how well linear models of the features explain the labels, none of them fitted.

    A label column y [N] is taken to be N(F w, 1/β) with weights w from N(0, 1/α); α and β are those under which y is
    most likely once w is integrated out. Of several classes the mean over a column each, one for the rows of the
    class and zero elsewhere. Comparable between features of the same rows only: of other labels it has another scale.

    Args:
        features: [N, H] of N rows.
        labels: [N] classes as integers, or values as floats.

    Returns:
        Nats per row, unbounded: a density is no probability.

    Raises:
        ValueError: if no label is other than zero.

    Source: LogME (You et al., arXiv:2102.11005), equations 2 and 3 and its algorithm 1: α and β by MacKay's fixed
    point. Computed in the basis of the singular vectors, and at the end with the β that is best under α / β.
    Deviation: docs/deviations.md#logme.
    """
    targets = labels.double()[:, None] if labels.is_floating_point() else one_hot(labels.long()).double()
    targets = targets[:, targets.any(0)]  # [N, C] without classes that have no row
    if not targets.numel():
        raise ValueError("logme needs labels other than zero, there are none; compare more rows")
    left, singular, _ = torch.linalg.svd(features.double(), full_matrices=False)
    within = (left.T @ targets).square()  # [R, C] of each column along each singular vector
    beside = (targets.square().sum(0) - within.sum(0)).clamp_min(0)  # [C] what no weights can explain
    return sum(
        _evidence(singular.square(), of_column, float(rest), len(targets))
        for of_column, rest in zip(within.T, beside, strict=True)
    ) / (len(targets) * targets.shape[1])


def _evidence(eigenvalues: Tensor, within: Tensor, beside: float, rows: int) -> float:
    """Nats of a column under the best α and β, by iterating over their ratio."""
    largest = float(eigenvalues.max()) or 1.0
    ratio = 1.0
    for _ in range(ITERATIONS):
        kept = eigenvalues / (eigenvalues + ratio)
        lost = ratio / (eigenvalues + ratio)
        gamma = float(kept.sum())  # parameters that the column determines
        weights = float((kept * within / (eigenvalues + ratio)).sum())  # mᵀm
        residual = beside + float((lost.square() * within).sum())
        free = rows - len(eigenvalues) + float(lost.sum())  # N - γ, without cancelling
        before = ratio
        ratio = gamma * residual / (weights * free) if weights * free > 0 else largest * WIDEST
        ratio = min(max(ratio, largest / WIDEST), largest * WIDEST)
        if abs(ratio - before) <= TOLERANCE * before:
            break
    explained = beside + float((ratio / (eigenvalues + ratio) * within).sum())  # yᵀ (I + F Fᵀ / ratio)⁻¹ y = N / β
    determinant = float((eigenvalues / ratio).log1p().sum())
    return -0.5 * (rows * (1 + math.log(2 * math.pi * explained / rows)) + determinant)


def leep(logits: Tensor, labels: Tensor) -> float:
    """Log expected empirical prediction: how well the source's answers tell the target's classes.

    Args:
        logits: [N, Z] of the source's head on the target's rows.
        labels: [N] the target's classes.

    Returns:
        Nats per row, at most 0.

    Source: LEEP (Nguyen et al., arXiv:2002.12462), equations 1 and 2.
    """
    answers = logits.double().softmax(-1)
    joint = torch.zeros(int(labels.max()) + 1, answers.shape[1], dtype=torch.double)
    joint.index_add_(0, labels.long(), answers)  # [Y, Z] N times the probability of both
    conditional = joint / joint.sum(0).clamp_min(torch.finfo(torch.double).tiny)
    return min(float((conditional[labels.long()] * answers).sum(-1).log().mean()), 0.0)


def source_size(sizes: Tensor) -> float:
    """Log of the rows that the source was trained on: what is known of it without looking at the target.

    Args:
        sizes: [T] rows of each of its tasks, at most the mixture's cap.

    Returns:
        Nats, at least 0.

    Source: a baseline; that larger sources transfer better is the usual rule (Phang et al., arXiv:1811.01088).
    """
    return float(sizes.double().sum().log())


def label_entropy(counts: Tensor) -> float:
    """Entropy of the source's labels; of a mixture the mean over its tasks, by their rows.

    Args:
        counts: [T, C] rows, or words, of each label of each task, times anything that makes rows sum to a task's share.

    Returns:
        Nats, at least 0, at most the log of the number of labels.

    Source: a baseline: how much a source's label can tell at most, whatever the target.
    """
    shares = counts.double() / counts.sum()
    of_task = shares / shares.sum(1, keepdim=True)
    return float(-(shares * of_task.clamp_min(torch.finfo(torch.double).tiny).log()).sum()) + 0.0
