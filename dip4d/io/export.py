"""The volumes of a run in the formats of other programs, written frame by frame; nothing is ever overwritten."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np

from dip4d.errors import InputError
from dip4d.io.mrc import ANGSTROM_PER_NM
from dip4d.io.raw import optional
from dip4d.io.volumes import write_volumes

_MOVIE_FPS = 10
_MOVIE_EDGE = 256  # pixels that the smallest panel of a movie is enlarged to, at least
_MOVIE_GAP, _MOVIE_TEXT = 8, 24  # pixels between panels, and above them


def export_volumes(
    volumes: np.ndarray,
    path: Path,
    *,
    kind: str,
    times_s: np.ndarray,
    pixel_nm: float | None,
) -> Path:
    """Writes volumes (t, z, y, x) at `path`, which appears under its name only when it is whole.

    volumes: (t, z, y, x), intensity per voxel.
    path: a file, or for formats of many files a folder.
    kind: a name of `FORMATS`.
    times_s: (t,), seconds.
    pixel_nm: the voxel size, nm; None if unknown.
    Raises InputError if there is something at `path`, or if the format needs a package that is not installed.
    """
    if path.exists():
        raise InputError(f"{path} exists already; move it away, or name another place", argument="out")
    partial = path.with_name(path.name + ".part")
    _remove(partial)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        FORMATS[kind](volumes, partial, times_s=times_s, pixel_nm=pixel_nm)
    except BaseException:
        _remove(partial)
        raise
    partial.replace(path)
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _number(frame: int, count: int) -> str:
    return f"{frame:0{max(3, len(str(count - 1)))}d}"


def _write_mrc(volumes: np.ndarray, folder: Path, *, times_s: np.ndarray, pixel_nm: float | None) -> None:
    """One volume a file, frame_000.rec and so on, (z, y, x), float32; MRC stores Angstrom."""
    folder.mkdir()
    for t, volume in enumerate(volumes):
        with mrcfile.new(folder / f"frame_{_number(t, len(volumes))}.rec") as mrc:
            mrc.set_data(np.asarray(volume, dtype=np.float32))
            mrc.set_volume()
            if pixel_nm is not None:
                mrc.voxel_size = pixel_nm * ANGSTROM_PER_NM
            mrc.add_label(f"DIP-4D frame {t}, {times_s[t]:g} s")


def _write_tiff(volumes: np.ndarray, folder: Path, *, times_s: np.ndarray, pixel_nm: float | None) -> None:
    """One volume a file, frame_000.ome.tif and so on. The run itself holds all of them as one hyperstack."""
    folder.mkdir()
    for t, volume in enumerate(volumes):
        name = f"frame_{_number(t, len(volumes))}.ome.tif"
        write_volumes(folder / name, [volume], shape=(1, *volume.shape), times_s=times_s[t : t + 1], pixel_nm=pixel_nm)


def _write_zarr(volumes: np.ndarray, folder: Path, *, times_s: np.ndarray, pixel_nm: float | None) -> None:
    """OME-Zarr 0.5: axes t, z, y, x in seconds and nm, one frame a chunk.

    OME-Zarr knows one time step only: the scale is the mean one, the times themselves are the attribute `times_s`.
    """
    zarr = optional("zarr", folder)
    step_s = float(np.ptp(times_s)) / (len(times_s) - 1) if len(times_s) > 1 and np.ptp(times_s) > 0 else 1.0
    size = {"type": "space"} if pixel_nm is None else {"type": "space", "unit": "nanometer"}
    scale = {"type": "scale", "scale": [step_s, *[float(pixel_nm or 1)] * 3]}
    shift = {"type": "translation", "translation": [float(times_s[0]), 0.0, 0.0, 0.0]}
    multiscale = {
        "name": "volumes",
        "axes": [{"name": "t", "type": "time", "unit": "second"}, *({"name": n, **size} for n in "zyx")],
        "datasets": [{"path": "0", "coordinateTransformations": [scale, shift]}],
    }
    group = zarr.create_group(
        str(folder),
        zarr_format=3,
        attributes={"ome": {"version": "0.5", "multiscales": [multiscale]}, "times_s": [float(s) for s in times_s]},
    )
    array = group.create_array(
        "0", shape=volumes.shape, chunks=(1, *volumes.shape[1:]), dtype="float32", dimension_names=list("tzyx")
    )
    for t, volume in enumerate(volumes):
        array[t] = np.asarray(volume, dtype=np.float32)


def _write_npy(volumes: np.ndarray, folder: Path, *, times_s: np.ndarray, pixel_nm: float | None) -> None:
    """volumes.npy and, because it has no place for them, volumes.json with axes, times and voxel size."""
    folder.mkdir()
    out = np.lib.format.open_memmap(folder / "volumes.npy", mode="w+", dtype=np.float32, shape=volumes.shape)
    for t, volume in enumerate(volumes):
        out[t] = volume
    out.flush()
    about = {"axes": "tzyx", "pixel_nm": pixel_nm, "times_s": [float(s) for s in times_s]}
    (folder / "volumes.json").write_text(json.dumps(about, indent=1) + "\n")


def _write_mp4(volumes: np.ndarray, path: Path, *, times_s: np.ndarray, pixel_nm: float | None) -> None:
    """A movie, one picture for each frame: the three orthoslices through the middle, side by side, one grey scale."""
    ffmpeg = optional("imageio_ffmpeg", path)
    vmax = max(float(np.max(volume)) for volume in volumes) or 1.0
    pictures = (_movie_picture(v, s, vmax=vmax) for v, s in zip(volumes, times_s, strict=True))
    first = next(pictures)
    movie = ffmpeg.write_frames(
        str(path), first.shape[1::-1], fps=_MOVIE_FPS, quality=8, macro_block_size=2, output_params=["-f", "mp4"]
    )  # the format is named because the partial file does not end in .mp4
    movie.send(None)
    try:
        for picture in itertools.chain([first], pictures):
            movie.send(np.ascontiguousarray(picture))
    finally:
        movie.close()


def _movie_picture(volume: np.ndarray, time_s: float, *, vmax: float) -> np.ndarray:
    """Orthoslices (y, x), (z, x) and (z, y) of a volume (z, y, x) side by side, uint8 (rows, columns, 3)."""
    import matplotlib
    from PIL import Image, ImageDraw

    z, y, x = (n // 2 for n in volume.shape)
    slices = {"y, x": volume[z], "z, x": volume[:, y], "z, y": volume[:, :, x]}
    zoom = max(1, -(-_MOVIE_EDGE // min(max(s.shape) for s in slices.values())))
    coloured = [matplotlib.colormaps["inferno"](np.clip(s / vmax, 0, 1), bytes=True)[..., :3] for s in slices.values()]
    panels = [c.repeat(zoom, 0).repeat(zoom, 1) for c in coloured]
    height = _MOVIE_TEXT + max(p.shape[0] for p in panels)
    width = sum(p.shape[1] + _MOVIE_GAP for p in panels) - _MOVIE_GAP
    picture = np.zeros((height + height % 2, width + width % 2, 3), np.uint8)
    left, labels = 0, []
    for name, panel in zip(slices, panels, strict=True):
        picture[_MOVIE_TEXT : _MOVIE_TEXT + panel.shape[0], left : left + panel.shape[1]] = panel
        labels.append((left + 4, name))
        left += panel.shape[1] + _MOVIE_GAP
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for start, name in labels:
        draw.text((start, 6), f"({name})" + (f"  {time_s:g} s" if start == 4 else ""), fill=(255, 255, 255))
    return np.asarray(image)


FORMATS: dict[str, Callable[..., None]] = {
    "mrc": _write_mrc,
    "tiff": _write_tiff,
    "zarr": _write_zarr,
    "npy": _write_npy,
    "mp4": _write_mp4,
}
