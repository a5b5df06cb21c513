"""Muon: momentum whose matrices are made orthogonal, so that all directions are learnt as fast.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), scaled to Adam's
size of update (Liu et al. 2025, arXiv:2502.16982). Optax has it for matrices, and for kernels of
convolutions in later versions than this program can ask for.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic; they make small singular values grow
ITERATIONS = 5
RMS = 0.2  # of an update, as of Adam's


def scale_by_muon(momentum: float) -> optax.GradientTransformation:
    """Muon for kernels of convolutions, Adam for everything else.

    Args:
      momentum: Nesterov's, of the former.
    """
    orthogonal = optax.stateless(lambda updates, _: jax.tree.map(_update, updates))
    transforms = {
        "convolution": optax.chain(optax.trace(momentum, nesterov=True), orthogonal),
        "other": optax.scale_by_adam(),
    }
    return optax.partition(transforms, _kinds)


def _kinds(params: Any) -> Any:
    return jax.tree.map(lambda leaf: "convolution" if leaf.ndim == 4 else "other", params)


def _update(kernel_HWIO: jax.Array) -> jax.Array:
    matrix = orthogonalized(kernel_HWIO.reshape(-1, kernel_HWIO.shape[-1]))
    scale = RMS * jnp.sqrt(jnp.asarray(max(matrix.shape), matrix.dtype))
    return scale * matrix.reshape(kernel_HWIO.shape)


def orthogonalized(matrix: jax.Array) -> jax.Array:
    """About U V^T of a matrix U S V^T: its singular values all come near 1 (0.7 to 1.2).

    By Newton and Schulz's iteration, which takes products of matrices alone.

    Args:
      matrix: float [m, n].
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T).T
    a, b, c = COEFFICIENTS
    x = matrix / (jnp.linalg.norm(matrix) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x
