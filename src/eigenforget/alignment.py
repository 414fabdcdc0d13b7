"""Dimensional alignment: how much of the forget features lies in the retain features' eigenspace.

Source: "Revisiting Machine Unlearning with Dimensional Alignment" (arXiv 2407.17710). With feature
columns F_f [D, N_f] and F_r [D, N_r], G_f = F_f F_fᵀ, G_r likewise, and U [D, k] the leading
eigenvectors of G_r:

    frobenius   DA_k(f | r) = ‖G_f U Uᵀ‖_F / ‖G_f‖_F        in [0, 1]
    energy      DA_k(f | r) = tr(Uᵀ G_f U) / tr(G_f)        in [0, 1], never decreasing in k

Both are 1 when the forget features lie in span(U) and 0 when they are orthogonal to it. The
Frobenius form is the paper's; the energy form is our second reading. The paper publishes neither k
nor the centering: we report the whole curve over k and both conventions. Everything is float64.
Features come as rows [N, D], as models produce them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed

Form = Literal["frobenius", "energy"]
Centering = Literal["none", "each"]


class Moments(NamedTuple):
    """Count, mean and centred second moment of feature rows, in float64.

    Centred moments merge without cancellation (Chan et al. 1983), so any sharding gives the
    one-pass result up to rounding.

    Args:
        samples: Number of rows, [].
        mean: μ, [D].
        scatter: Σ (x−μ)(x−μ)ᵀ, [D, D].
    """

    samples: Tensor
    mean: Tensor
    scatter: Tensor

    @property
    def width(self) -> int:
        """The feature width D."""
        return self.mean.shape[0]

    def gram(self, centering: Centering = "none") -> Tensor:
        """G = Σ x xᵀ [D, D] for "none", Σ (x−μ)(x−μ)ᵀ for "each"."""
        if centering == "each":
            return self.scatter
        return self.scatter + self.samples * torch.outer(self.mean, self.mean)

    def space(self, centering: Centering = "none") -> Eigenspace:
        """The eigenspace of G, whose rank cannot exceed the number of rows."""
        return eigenspace(self.gram(centering), rank=int(self.samples))


class Eigenspace(NamedTuple):
    """Eigenvalues and eigenvectors of a Gram matrix [D, D] of numerical rank R ≤ D.

    Args:
        values: The eigenvalues [R], in descending order.
        vectors: The eigenvectors, the columns of [D, R].
    """

    values: Tensor
    vectors: Tensor


def empty_moments(width: int, device: torch.device | str = "cpu") -> Moments:
    """The neutral element of `merge`."""
    zeros = torch.zeros(width, dtype=torch.float64, device=device)
    return Moments(zeros.new_zeros(()), zeros, zeros.new_zeros(width, width))


def moments(features: Tensor) -> Moments:
    """The moments of feature rows [N, D].

    Raises:
        EigenforgetError: The features are not 2-D, have no rows, or hold NaN or infinite values;
            the message names the rows.
    """
    rows = _checked(features)
    mean = rows.mean(0)
    own = rows.data_ptr() != features.data_ptr()  # a copy in float64, which is not needed further
    centred = rows.sub_(mean) if own else rows - mean
    count = torch.tensor(float(len(rows)), dtype=torch.float64, device=rows.device)
    return Moments(count, mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets of rows together, as a new value."""
    if a.width != b.width:
        raise EigenforgetError(f"features of width {a.width} and {b.width} cannot be merged")
    for empty, other in ((b, a), (a, b)):
        if empty.samples == 0:
            return Moments(*(tensor.clone() for tensor in other))
    count = a.samples + b.samples
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.samples / count)
    scatter = a.scatter + b.scatter + torch.outer(delta, delta) * (a.samples * b.samples / count)
    return Moments(count, mean, scatter)


def eigenspace(gram: Tensor, rank: int | None = None) -> Eigenspace:
    """Eigenvectors of a symmetric Gram matrix [D, D] whose eigenvalues stand above rounding error.

    Directions with no energy have no defined eigenvector (dead units are common after a ReLU), so
    they are left out.

    Args:
        gram: The matrix.
        rank: What its rank cannot exceed, such as the number of rows that it was made of. Far below
            D, the matrix is first projected onto its range, in O(D² rank) instead of O(D³).
    """
    gram = gram.double()
    if rank is not None and 3 * rank < gram.shape[0]:
        span = range_basis(gram, rank)
        values, inner = torch.linalg.eigh(span.T @ gram @ span)
        vectors = span @ inner
    else:
        values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    if not values[0] > 0:
        raise EigenforgetError("all features are zero: there is no eigenspace")
    keep = values > values[0] * _tolerance(gram.shape[0])
    return Eigenspace(values[keep], vectors[:, keep])


def range_basis(matrix: Tensor, rank: int, *, symmetric: bool = True) -> Tensor:
    """An orthonormal basis [D, rank + 8] of the range of [D, E], by passes from random directions.

    A product with that many random vectors spans the range of a matrix of this rank (Halko,
    Martinsson and Tropp 2011, arXiv 0909.4061). If the matrix is symmetric, a second pass sharpens
    directions of little energy. The seed is fixed: the result follows from the matrix.

    Args:
        matrix: [D, E] float64.
        rank: What its rank cannot exceed.
        symmetric: Whether it is.
    """
    start = torch.randn(
        matrix.shape[1], rank + 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    span: Tensor = torch.linalg.qr(matrix @ start.to(matrix.device)).Q
    if not symmetric:
        return span
    sharper: Tensor = torch.linalg.qr(matrix @ span).Q
    return sharper


def eigenspace_of_rows(features: Tensor, centering: Centering = "none") -> Eigenspace:
    """The eigenspace of feature rows [N, D].

    For D > N it goes through the [N, N] Gram matrix and never forms a [D, D] one.
    """
    rows = _checked(features)
    rows = rows - rows.mean(0) if centering == "each" else rows
    if rows.shape[1] <= rows.shape[0]:
        return eigenspace(rows.T @ rows)
    small = eigenspace(rows @ rows.T)
    vectors = rows.T @ (small.vectors / small.values.sqrt())
    # One QR step restores orthonormality, which division by small singular values weakens.
    q, r = torch.linalg.qr(vectors)
    return Eigenspace(small.values, q * torch.sign(torch.diagonal(r)))


def leading(space: Eigenspace, k: int, *, samples: int) -> Tensor:
    """The leading eigenvectors U [D, k].

    Raises:
        EigenforgetError: k < 1 or k ≥ D (both forms would be 1), or there are fewer than k samples
            or fewer than k directions with energy.
    """
    width = space.vectors.shape[0]
    if not 1 <= k < width:
        raise EigenforgetError(
            f"k = {k} must be from 1 to {width - 1}: below the feature width {width}"
        )
    if samples < k:
        raise EigenforgetError(f"k = {k} needs at least {k} retain samples, got {samples}")
    if space.vectors.shape[1] < k:
        raise EigenforgetError(
            f"k = {k}, but the retain features span only {space.vectors.shape[1]} dimensions"
        )
    return space.vectors[:, :k]


def default_k(classes: int, *, width: int) -> int:
    """The number of directions that stand for `classes` retained classes in features of this width.

    One for each class, since the class means span at most as many directions. Features with no more
    dimensions than that would lie in them as a whole; there it is half of the dimensions. Our
    choice: the paper leaves k open.
    """
    return classes if classes < width else max(1, width // 2)


def alignment_curve(
    forget: Moments,
    retain: Moments,
    *,
    form: Form = "frobenius",
    centering: Centering = "none",
    space: Eigenspace | None = None,
) -> Tensor:
    """DA_k(f | r) for k = 1 … K as a float64 tensor [K].

    K is the smallest of D−1, the number of retain samples and the rank of the retain features:
    beyond it, DA is not defined.

    Args:
        forget: Moments of the forget features.
        retain: Moments of the retain features.
        form: "frobenius", as in the paper, or "energy".
        centering: "each" subtracts each side's own mean, "none" nothing.
        space: `retain.space(centering)`, where it is known: it is most of the work.

    Raises:
        EigenforgetError: A side has no samples, or its features are all zero.
    """
    for side, what in ((forget, "forget"), (retain, "retain")):
        if side.samples < 1:
            raise EigenforgetError(f"dimensional alignment needs {what} features, got none")
    g = forget.gram(centering)
    if not torch.linalg.matrix_norm(g) > 0:
        raise EigenforgetError("all forget features are zero: their alignment is not defined")
    space = retain.space(centering) if space is None else space
    last = min(retain.width - 1, int(retain.samples), space.vectors.shape[1])
    return _curve(g, leading(space, last, samples=int(retain.samples)), form)


def alignment_of_rows(
    forget: Tensor,
    *,
    retain: Tensor,
    k: int,
    form: Form = "frobenius",
    centering: Centering = "none",
) -> Tensor:
    """DA_k of feature rows [N_f, D] and [N_r, D] at one k, in O(N·D·k).

    It never forms a [D, D] matrix when D exceeds N. The arguments are those of `alignment_curve`.
    """
    rows, other = _checked(forget), _checked(retain)
    if rows.shape[1] != other.shape[1]:
        raise EigenforgetError(
            f"forget features have width {rows.shape[1]}, retain features {other.shape[1]}"
        )
    rows = rows - rows.mean(0) if centering == "each" else rows
    if not rows.any():
        raise EigenforgetError("all forget features are zero: their alignment is not defined")
    basis = leading(eigenspace_of_rows(other, centering), k, samples=len(other))
    if form == "energy":
        return (rows @ basis).square().sum() / rows.square().sum()
    return _squared_alignment(rows, basis).sqrt()


def alignment_influence(
    rows: Tensor, forget: Moments, basis: Tensor, *, form: Form = "frobenius"
) -> Tensor:
    """By how much DA_k, uncentred, grows with the weight of each forget row, as float64 [N].

    The rows sum to 0. The root of the sum of their squares is the standard error of DA_k over the
    draw of the forget samples, with a fixed eigenspace (infinitesimal jackknife, Efron 1981).

    Args:
        rows: The forget features [N, D].
        forget: Their moments.
        basis: U [D, k].
        form: "frobenius" or "energy".
    """
    rows, gram = _checked(rows), forget.gram()
    inside = rows @ basis
    if form == "energy":
        total = torch.trace(gram)
        share = (basis * (gram @ basis)).sum() / total
        return (inside.square().sum(1) - share * rows.square().sum(1)) / total
    image = gram @ basis
    top, bottom = image.square().sum(), gram.square().sum()
    change = (inside * (rows @ image)).sum(1) / top - ((rows @ gram) * rows).sum(1) / bottom
    return (top / bottom).sqrt() * change


def dimensional_alignment_loss(
    features: Tensor, basis: Tensor, *, form: Form = "frobenius"
) -> Tensor:
    """L_DA in [−1, 0] of one batch of features [B, D] against a fixed basis U [D, k]; a scalar.

    −DA_k² for the Frobenius form, which is the source's (2407.17710); −tr(Uᵀ G U) / tr(G), the
    energy itself, for "energy". It is a ratio over the batch and has no per-sample form (the one
    deviation from this package's losses). The basis is detached: gradients move the forget features
    into the retain eigenspace, never the eigenspace. A batch without energy, such as one sample
    less its own mean, gives 0 and no gradient.
    """
    if features.ndim != 2 or basis.ndim != 2 or features.shape[1] != basis.shape[0]:
        raise EigenforgetError(
            f"features [B, D] and basis [D, k] do not fit: {list(features.shape)} and "
            f"{list(basis.shape)}"
        )
    share = _energy if form == "energy" else _squared_alignment
    return -share(features, basis.detach().to(features))


def _squared_alignment(rows: Tensor, basis: Tensor) -> Tensor:
    """‖G U‖²_F / ‖G‖²_F with G = rowsᵀ rows, through the smaller of [N, N] and [D, D]."""
    rows = _scaled(rows)
    if rows.shape[0] < rows.shape[1]:
        inner = rows @ rows.T
        projected = rows @ basis
        return (projected * (inner @ projected)).sum() / _some(inner.square().sum())
    gram = rows.T @ rows
    return (gram @ basis).square().sum() / _some(gram.square().sum())


def _energy(rows: Tensor, basis: Tensor) -> Tensor:
    """tr(Uᵀ G U) / tr(G) with G = rowsᵀ rows: the share of squared length that lies in span(U)."""
    rows = _scaled(rows)
    return (rows @ basis).square().sum() / _some(rows.square().sum())


def _some(energy: Tensor) -> Tensor:
    """The energy, above 0 so that it can divide."""
    return energy.clamp_min(torch.finfo(energy.dtype).tiny)


def _scaled(rows: Tensor) -> Tensor:
    # Neither ratio depends on scale; a unit largest entry keeps fourth powers finite in float32.
    return rows / rows.detach().abs().amax().clamp_min(torch.finfo(rows.dtype).tiny)


def _curve(gram: Tensor, basis: Tensor, form: Form) -> Tensor:
    image = gram @ basis
    if form == "energy":
        return ((basis * image).sum(0).cumsum(0) / torch.trace(gram)).clamp(0.0, 1.0)
    # ‖G U_k U_kᵀ‖²_F = Σ_{j ≤ k} ‖G u_j‖² because the columns of U are orthonormal.
    return (image.square().sum(0).cumsum(0) / gram.square().sum()).sqrt().clamp(0.0, 1.0)


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or features.shape[0] == 0:
        raise EigenforgetError(
            f"features must be rows [N, D] with N ≥ 1, got shape {list(features.shape)}"
        )
    rows = features.detach().double()
    if not torch.isfinite(rows.sum()):  # one pass over finite numbers; a sum may also overflow
        bad = ~torch.isfinite(rows).all(1)
        if bad.any():
            raise EigenforgetError(
                "features hold NaN or infinite values in rows "
                f"{listed(bad.nonzero().flatten().tolist())}"
            )
    return rows


def _tolerance(size: int) -> float:
    # The usual rank bound for a Gram matrix: rounding in G is about size · eps · ‖G‖.
    return size * torch.finfo(torch.float64).eps
