"""The elements that a specimen is made of, and the intensity per voxel of each where it is pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U"
)
ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(_SYMBOLS.split(), start=1)}


@dataclass(frozen=True)
class Elements:
    """names: one or two symbols. intensities: of each where it is pure, per voxel; those of two differ."""

    names: tuple[str, ...]
    intensities: tuple[float, ...]


def elements_of(
    names: Sequence[str],
    intensities: Sequence[float] = (),
    *,
    exponent: float = 1.7,
    brightest: float = 1.0,
) -> Elements:
    """Elements by their calibrated intensities, or by atomic number: HAADF intensity grows as Z to some power.

    names: one or two symbols, of `ATOMIC_NUMBERS`.
    intensities: of each, per voxel; none if not calibrated.
    exponent: of the atomic number, 1.6 to 2 (times the same number of atoms in a volume).
    brightest: intensity of the heavier element, where they are not calibrated.
    """
    if not intensities:
        powers = [ATOMIC_NUMBERS[name] ** exponent for name in names]
        intensities = [brightest * power / max(powers) for power in powers]
    return Elements(tuple(names), tuple(map(float, intensities)))
