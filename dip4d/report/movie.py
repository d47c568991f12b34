"""The movie of a run: surfaces that turn through time, orthoslices and images, beside conventional tomography."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from dip4d.errors import InputError
from dip4d.io.raw import optional
from dip4d.measures.image_quality import OURS
from dip4d.report.preview import MEASURED, PREDICTED, SmallMovie, movies_of, side_by_side, view_of
from dip4d.report.style import label, round_quarter
from dip4d.report.surface import surface_picture
from dip4d.run_folder import FIGURES, MOVIE, read_metrics
from dip4d.whole_file import written_beside

FPS, SIZE = 12, (1920, 1080)
SMALLEST, LARGEST_EDGE = 240, 4096  # pixels of a picture, along each edge
TURN_DEG = 360.0  # of the surfaces, over the whole movie
_INK, _QUIET, _ACCENT = (29, 35, 41), (102, 112, 122), (193, 18, 31)
_SAME_BYTES = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4"]


def write_mp4(run: Path, *, fps: float = FPS, size: tuple[int, int] = SIZE) -> Path:
    """Writes figures/movie.mp4 of a run, a picture for each image of its series; the file is whole at any moment.

    fps: pictures in a second.
    size: (width, height) of a picture, pixels, even.
    Raises InputError if imageio-ffmpeg is missing, if the run has no volumes, or for a size that cannot be drawn.
    """
    path = run / FIGURES / MOVIE
    ffmpeg = check_movie(fps=fps, size=size)
    scene = _scene_of(run, size)
    path.parent.mkdir(exist_ok=True)
    with written_beside(path) as place:
        movie = ffmpeg.write_frames(
            str(place),
            size,
            fps=fps,
            quality=8,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=_SAME_BYTES,
        )
        movie.send(None)
        try:
            for picture in scene.pictures():
                movie.send(np.ascontiguousarray(picture))
        finally:
            movie.close()
    return path


def check_movie(*, fps: float, size: tuple[int, int]) -> ModuleType:
    """imageio-ffmpeg, if a movie of these pictures can be drawn with it; raises InputError as `write_mp4`."""
    if not 0.1 <= fps <= 120:
        raise InputError(f"{fps:g} pictures in a second: give 0.1 to 120", argument="fps")
    if any(edge % 2 or not SMALLEST <= edge <= LARGEST_EDGE for edge in size):
        raise InputError(
            f"{size[0]}x{size[1]} pixels: give even numbers from {SMALLEST} to {LARGEST_EDGE}", argument="size"
        )
    return optional("imageio_ffmpeg", MOVIE)


def _scene_of(run: Path, size: tuple[int, int]) -> _Scene:
    metrics, movies = read_metrics(run), movies_of(run)
    images = {n: movies.pop(n) for n in (MEASURED, PREDICTED) if n in movies}
    if OURS not in movies:
        raise InputError(f"{run}: no volumes to draw; is it the folder of a finished run?")
    names = side_by_side(list(movies))
    return _Scene(
        {label(n, metrics): movies[n] for n in names},
        {"measured image": images[MEASURED], "image of the volume": images[PREDICTED]} if len(images) == 2 else {},
        times_s=np.array(metrics["times_s"]),
        white=movies.get("truth", movies[OURS]).vmax,
        size=size,
        pixel_nm=metrics.get("pixel_nm"),
    )


@dataclass(frozen=True)
class _Scene:
    """What is drawn: a column for each method, surface above slice, and a column of images.

    volumes, images: by their titles, ours first.
    times_s: of the pictures, seconds.
    white: the intensity of a voxel that is white.
    size: (width, height) of a picture, pixels.
    pixel_nm: of the series, nm; None if unknown.
    """

    volumes: Mapping[str, SmallMovie]
    images: Mapping[str, SmallMovie]
    times_s: np.ndarray
    white: float
    size: tuple[int, int]
    pixel_nm: float | None

    def pictures(self) -> Iterator[np.ndarray]:
        """One (height, width, 3), uint8, for each time."""
        ours = next(iter(self.volumes.values()))
        view = view_of(ours, self.white)
        width, height = self.size
        head = height // 16
        columns = len(self.volumes) + bool(self.images)
        cell = (width // columns, (height - 2 * head) // 2)
        for t, time_s in enumerate(self.times_s):
            page = Image.new("RGB", self.size, "white")
            turn = TURN_DEG * t / max(len(self.times_s), 1)
            for c, (title, movie) in enumerate(self.volumes.items()):
                volume = movie.at(time_s) * np.float32(movie.vmax / 255)
                edge = min(cell) * 19 // 20
                bright = surface_picture(volume, view.level * self.white, turn_deg=turn, reach=view.reach, edge=edge)
                grey = np.rint(255 * np.where(np.isnan(bright), 1.0, bright)).astype(np.uint8)
                _paste(page, Image.fromarray(grey), corner=(c * cell[0], head), cell=cell)
                plane = volume[min(view.z, len(volume) - 1)]
                _paste(page, _fitted(plane / self.white, cell), corner=(c * cell[0], head + cell[1]), cell=cell)
                self._write(page, title, at=(c * cell[0] + cell[0] // 2, head // 2), colour=_ACCENT if c == 0 else _INK)
            self._draw_images(page, time_s, left=(columns - 1) * cell[0], cell=cell)
            self._write(page, f"{time_s:.4g} s", at=(width // 2, height - head // 2))
            self._draw_scale(page, ours, cell=cell)
            yield np.asarray(page)

    def _draw_images(self, page: Image.Image, time_s: float, *, left: int, cell: tuple[int, int]) -> None:
        white, head = max((m.vmax for m in self.images.values()), default=1.0), self.size[1] // 16
        for row, (title, movie) in enumerate(self.images.items()):
            image = movie.at(time_s)[::-1] * (movie.vmax / 255 / white)  # z upwards
            _paste(page, _fitted(image, cell), corner=(left, head + row * cell[1]), cell=cell)
            at = (left + cell[0] // 2, head // 2 if row == 0 else head + 2 * cell[1] + head // 2)
            self._write(page, title, at=at)

    def _draw_scale(self, page: Image.Image, movie: SmallMovie, *, cell: tuple[int, int]) -> None:
        """A scale bar of the slices, left below."""
        columns, scale = movie.volumes.shape[3], _scale(movie.volumes.shape[2:], cell)
        unit = movie.binned * (self.pixel_nm or 1.0)
        length = round_quarter(columns * unit)
        pixels = round(length / unit * scale)
        head, height = self.size[1] // 16, self.size[1]
        left, y = (cell[0] - round(columns * scale)) // 2, height - head // 2
        ImageDraw.Draw(page).rectangle((left, y - 2, left + pixels, y + 2), fill=_INK)
        words = f"{length:g} {'nm' if self.pixel_nm else 'voxels'}"
        self._write(page, words, at=(left + pixels + 12, y), colour=_QUIET, anchor="lm")

    def _write(
        self,
        page: Image.Image,
        words: str,
        *,
        at: tuple[int, int],
        colour: tuple[int, int, int] = _INK,
        anchor: str = "mm",
    ) -> None:
        font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", max(self.size[1] // 45, 9))
        ImageDraw.Draw(page).text(at, words, font=font, fill=colour, anchor=anchor)


def _scale(shape: tuple[int, ...], cell: tuple[int, int]) -> float:
    """How much larger a picture (rows, columns) is drawn, so that it all but fills its cell (width, height)."""
    return 0.95 * min(cell[0] / shape[1], cell[1] / shape[0])


def _fitted(values: np.ndarray, cell: tuple[int, int]) -> Image.Image:
    """Values (rows, columns), 0..1, as grey, as large as its cell (width, height) lets them be."""
    grey = Image.fromarray(np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8))
    scale = _scale(values.shape, cell)
    return grey.resize((round(values.shape[1] * scale), round(values.shape[0] * scale)), Image.Resampling.NEAREST)


def _paste(page: Image.Image, picture: Image.Image, *, corner: tuple[int, int], cell: tuple[int, int]) -> None:
    """Puts a picture into the middle of a cell (width, height) whose upper left corner is given."""
    (left, top), (width, height) = corner, cell
    page.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
