"""How many functions of time a changing volume needs: how hard it is for whatever is of low rank."""

from __future__ import annotations

import numpy as np

MOST_OF_IT = 0.9999  # of the energy


def time_rank(volumes: np.ndarray, share: float = MOST_OF_IT) -> int:
    """The fewest functions of time whose mixtures hold `share` of the energy, the sum of squares, of volumes (t, ...).

    1 for a specimen at rest; the number of eigenvalues of the products of all pairs of frames that sum to the share.
    """
    frames = volumes.reshape(len(volumes), -1)
    products = np.zeros((len(frames), len(frames)))
    for part in np.array_split(np.arange(frames.shape[1]), -(-frames.shape[1] // 2**16)):
        some = frames[:, part[0] : part[-1] + 1].astype(np.float64)
        products += some @ some.T
    energies = np.linalg.eigvalsh(products)[::-1].cumsum()
    return 1 + int((energies < share * energies[-1]).sum())
