"""Files in and out: whatever a microscope or a colleague wrote becomes a `TiltSeries` here, at the door."""

from dip4d.io.angles import read_angles
from dip4d.io.series import read_tilt_series, read_truth, write_tilt_series
from dip4d.io.volumes import open_volumes, write_volumes

__all__ = ["open_volumes", "read_angles", "read_tilt_series", "read_truth", "write_tilt_series", "write_volumes"]
