"""Stacks of images in TIFF files, and single images of other kinds that Pillow reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import tifffile

from dip4d.errors import InputError
from dip4d.io.raw import Raw, as_input_error, check_claim, how_to_install, length_nm, optional, silent

_GATAN_SCALE, _GATAN_UNITS = 65009, (65003, 65012)  # tags of DigitalMicrograph, of the first axis
_CENTIMETRE, _FINEST_CM_NM = 3, 1000.0  # a resolution in cm below that is no printer's
_COLOURS = 3, 4


def read_tiff(path: Path) -> Raw:
    """The stack of a TIFF file, and its pixel size as OME, ImageJ, DigitalMicrograph, FEI or Olympus give it.

    Of a preview and a stack the stack is read. WhiteIsZero is inverted. Raises InputError.
    """
    with as_input_error(path, "TIFF"), silent("tifffile"), tifffile.TiffFile(path) as tif:
        for page in tif.pages:
            _check_page(page, path, stated=tif.series[0].shape)
        chosen, notes = _chosen(tif, path)
        _check_planes(tif, chosen, path=path)
        check_claim(path, float(sum(s.nbytes for s in chosen)), stored=path.stat().st_size)
        try:
            images = np.stack([s.asarray() for s in chosen]) if len(chosen) > 1 else chosen[0].asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise InputError(f"{path}: its pixels are compressed: {how_to_install('imagecodecs')}") from None
        raw = Raw(images, notes=notes, pixel_nm=_pixel_nm(tif, chosen[0].keyframe))
        if chosen[0].keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            raw.images = _inverted(images, bits=chosen[0].keyframe.bitspersample)
            raw.notes.append("the TIFF says that white is 0: its intensities were inverted")
    return raw


def read_picture(path: Path) -> Raw:
    """A grey image of a kind such as PNG. Raises InputError for colours."""
    image_of = optional("PIL.Image", path)
    with as_input_error(path, path.suffix), warnings.catch_warnings(action="ignore"), image_of.open(path) as picture:
        columns, rows = picture.size
        check_claim(path, 4.0 * columns * rows, stored=path.stat().st_size)
        grey = picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16")
        images = np.asarray(picture if grey else picture.convert("RGB"))
        images = images.astype(np.uint8) if images.dtype == bool else images
    if images.ndim == 3 and (images == images[..., :1]).all():
        images = images[..., 0]
    if images.ndim != 2:
        raise InputError(f"{path}: a colour image of shape {images.shape}; a tilt series is grey")
    return Raw(images)


def _check_page(page: Any, path: Path, *, stated: tuple[int, ...]) -> None:
    """Raises InputError for a page that keeps more or fewer bytes than its shape says, where that can be told."""
    like = page.keyframe
    if like is None:  # a page that the OME header does not know: see _check_planes
        return
    stored = sum(page.databytecounts)
    check_claim(path, float(like.nbytes), stored=min(stored, path.stat().st_size))
    plain = like.compression == tifffile.COMPRESSION.NONE and not like.is_tiled
    row = like.nbytes // max(like.imagelength, 1)
    padded = len(page.databytecounts) * min(like.rowsperstrip, like.imagelength) * row  # the last strip is full, too
    if plain and stored not in (like.nbytes, padded):
        raise InputError(f"{path}: not a readable TIFF file (its pixels do not fit the shape {stated})")


def _chosen(tif: tifffile.TiffFile, path: Path) -> tuple[list[tifffile.TiffPageSeries], list[str]]:
    """The grey stack of a file, or single grey images of one shape that make one; and what was assumed."""
    grey = [s for s in tif.series if not _is_colour(s)]
    if not grey:
        raise InputError(f"{path}: colour images of shape {tif.series[0].shape}; a tilt series is grey")
    kinds = {(s.shape, s.dtype) for s in grey}
    if len(grey) > 1 and len(kinds) == 1 and len(grey[0].shape) == 2:
        return grey, []
    planes = [len(s.pages) if len(s.pages) > 1 else int(np.prod(s.shape[:-2])) for s in grey]
    stacks = [s for s, n in zip(grey, planes, strict=True) if n > 1] or grey[:1]
    if len(stacks) > 1 or (len(grey) > 1 and stacks[0] is grey[0] and len(grey[0].shape) == 2):
        shapes = ", ".join(str(s.shape) for s in grey[:4])
        raise InputError(f"{path}: holds {len(grey)} stacks of shapes {shapes}; a tilt series is one stack")
    others = len(tif.series) - 1
    return stacks, [] if not others else [
        f"of {others + 1} images or stacks in the TIFF the grey one of shape {stacks[0].shape} was read"
    ]


def _is_colour(series: tifffile.TiffPageSeries) -> bool:
    rgb = series.keyframe.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
    return rgb and len(series.shape) > 2 and series.shape[-1] in _COLOURS


def _check_planes(tif: tifffile.TiffFile, chosen: list[tifffile.TiffPageSeries], *, path: Path) -> None:
    """Raises InputError where the file has more or fewer pages than what describes it: one of both is wrong."""
    pages = [p for s in chosen for p in s.pages]
    missing = sum(p is None for p in pages)
    if missing:
        raise InputError(
            f"{path}: its OME header speaks of {len(pages)} planes, {missing} of them are not in the file; export the "
            "series again, as one file"
        )
    if len(tif.series) == 1 and len(chosen[0].shape) == 2 and len(tif.pages) > 1:
        told = "its OME header speaks of one" if tif.is_ome else "only one could be read"
        raise InputError(f"{path}: {len(tif.pages)} pages, but {told}; the file is damaged, was cut or edited")


def _inverted(images: np.ndarray, *, bits: int) -> np.ndarray:
    if images.dtype == bool:
        return ~images
    if images.dtype.kind == "u":
        return (2**bits - 1) - images if bits < 8 * images.dtype.itemsize else np.iinfo(images.dtype).max - images
    return -1 - images if images.dtype.kind == "i" else images.max() - images


def _pixel_nm(tif: tifffile.TiffFile, page: Any) -> float | None:
    """The width of a pixel in nm as the first that knows it says; None if none does."""
    if tif.ome_metadata is not None:
        return _ome_pixel_nm(tif.ome_metadata)
    tags = {tag.code: tag.value for tag in page.tags.values()}
    if _GATAN_SCALE in tags:
        return next((nm for u in _GATAN_UNITS if (nm := length_nm(tags[_GATAN_SCALE], tags.get(u)))), None)
    for metadata, names in ((tif.fei_metadata, ("Scan", "PixelWidth")), (tif.sis_metadata, ("pixelsizex",))):
        for name in names:
            metadata = metadata.get(name) if isinstance(metadata, dict) else None
        if metadata is not None:
            return length_nm(cast(float, metadata), "m")
    per_unit = tags.get("XResolution", tags.get(282))
    if not isinstance(per_unit, tuple) or min(per_unit) <= 0:
        return None
    width = per_unit[1] / per_unit[0]
    if tif.imagej_metadata is not None:
        return length_nm(width, tif.imagej_metadata.get("unit"))
    centimetres = length_nm(width, "cm") if tags.get(296) == _CENTIMETRE else None
    return centimetres if centimetres is not None and centimetres < _FINEST_CM_NM else None


def _ome_pixel_nm(ome: str) -> float | None:
    image = tifffile.xml2dict(ome)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    if "PhysicalSizeX" not in pixels:
        return None
    return length_nm(pixels["PhysicalSizeX"], pixels.get("PhysicalSizeXUnit", "µm"))
