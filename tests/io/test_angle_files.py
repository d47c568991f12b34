"""Angles and times from text, however they are written: read as they are meant, or refused in one line."""

from __future__ import annotations

import datetime
import itertools

import numpy as np
import pytest

from dip4d.errors import InputError
from dip4d.io.angles import read_angle_file, read_angles
from dip4d.io.folder import angles_in_names, natural
from dip4d.io.stamps import seconds_of
from dip4d.io.table import read_text

ANGLES = np.round(np.random.default_rng(0).uniform(-69, 69, 24), 2)
TIMES = np.arange(24) * 37.5
FORMS = ("%d-%b-%y  %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S",
         "%Y:%m:%d %H:%M:%S", "%a %b %d %H:%M:%S %Y", "%H:%M:%S")  # fmt: skip
BEGAN = datetime.datetime(2024, 1, 31, 23, 50)


def stamps(form: str) -> list[str]:
    return [(BEGAN + datetime.timedelta(seconds=t)).strftime(form) for t in np.arange(24) * 37.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_encoding_and_end_of_line(tmp_path, encoding, end):
    path = tmp_path / "s.csv"
    path.write_bytes(end.join(["Winkel [°]" if encoding != "utf-8" else "angle", *map(str, ANGLES)]).encode(encoding))
    np.testing.assert_array_equal(read_angle_file(path).angles_deg, ANGLES)


@pytest.mark.parametrize(("mark", "comma"), [*itertools.product((";", "\t", " ", "; "), (False, True)), (",", False)])
@pytest.mark.parametrize("header", ["index{0}tilt_angle{0}time", None])
def test_any_mark_between_columns_and_either_decimal_mark(tmp_path, mark, comma, header):
    lines = [f"{i}{mark}{a:.2f}{mark}{t:.1f}" for i, (a, t) in enumerate(zip(ANGLES, TIMES, strict=True))]
    if header is None:
        lines = [line.split(mark, 1)[1] for line in lines]
    text = "\n".join(lines).replace(".", "," if comma else ".")
    (tmp_path / "s.csv").write_text((header.format(mark) + "\n" if header else "") + text)
    found = read_angle_file(tmp_path / "s.csv")
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    np.testing.assert_allclose(found.times_s, TIMES)


@pytest.mark.parametrize(
    ("header", "angle", "time"),
    [
        ("angle [rad],t [min]", np.rad2deg(1), 60),
        ("time_ms,angle_deg", 2, 1e-3),
        ("Zeit (h);Kippwinkel", 2, 3600),
        ("exposure time,alpha,time", 2, 3),
    ],
)
def test_a_header_names_columns_and_units(tmp_path, header, angle, time):
    cells = ["1,2,3" if header.count(",") == 2 else "1,2"][0].replace(",", ";" if ";" in header else ",")
    (tmp_path / "s.csv").write_text(f"{header}\n{cells}\n{cells.replace('2', '4')}\n")
    found = read_angle_file(tmp_path / "s.csv")
    assert found.angles_deg[0] == pytest.approx(angle)
    if "rad" in header:
        time *= 2
    assert found.times_s[0] == pytest.approx(time)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([f"{i},{a}" for i, a in enumerate(ANGLES)], "only count the images"),
        ([f"{3 * i},{a}" for i, a in enumerate(ANGLES)], "below 0, is no time"),
        ([f"{7 * i},{abs(a)}" for i, a in enumerate(ANGLES)], "may be an angle or a time"),
        ([f"{i},{a},{t}" for i, (a, t) in enumerate(zip(ANGLES, TIMES, strict=True))], "which of 3 columns"),
        (["-60,5", "-50,41", "-40,13", "-30,99", "-20,28"], "may be decimal"),
        (["angle,time", *[f"{a},{t}".replace(".", ",") for a, t in zip(ANGLES, TIMES, strict=True)]], "decimal"),
        (["angle,time", "1,soon", "2,later"], "line 2: .*'soon' is not understood"),
    ],
)
def test_what_may_mean_two_things_is_refused(tmp_path, lines, words):
    (tmp_path / "s.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=words) as refused:
        read_angle_file(tmp_path / "s.csv")
    assert "\n" not in str(refused.value)


def test_decimal_commas_alone_are_no_times(tmp_path):
    (tmp_path / "s.csv").write_text("\n".join(f"{a:.2f}".replace(".", ",") for a in ANGLES))
    found = read_angle_file(tmp_path / "s.csv")
    np.testing.assert_array_equal(found.angles_deg, ANGLES)
    assert found.times_s is None


@pytest.mark.parametrize("form", FORMS)
def test_any_stamp_past_midnight_and_the_end_of_a_month(form):
    times, note = seconds_of(stamps(form))
    np.testing.assert_allclose(times, np.arange(24) * 37)
    assert note is None


@pytest.mark.parametrize("form", FORMS)
def test_a_stamp_that_is_not_understood_is_named_and_the_others_give_the_order(form):
    known = stamps(form)
    times, note = seconds_of([*known[:7], "half past", *known[8:]])
    np.testing.assert_allclose(times, np.arange(24) * 37)
    assert "image 7 'half past' is not understood" in note
    order = np.random.default_rng(0).permutation(24)
    times, note = seconds_of([None if i == 7 else known[i] for i in order])  # by angle, say: into the gap
    np.testing.assert_allclose(times, order * 37)
    assert "is missing" in note
    times, note = seconds_of(["soon"] * 6 + known[6:])
    assert times is None
    assert "image 0 'soon' is not understood, and 5 more" in note


def test_sections_of_an_mdoc(tmp_path):
    entry = "[{} = {}]\nTiltAngle = {}\nDateTime = {}\n"
    lines = [entry.format("ZValue", i, a, s) for i, (a, s) in enumerate(zip(ANGLES, stamps(FORMS[0]), strict=True))]
    whole = ["PixelSpacing = 4\n[T = SerialEM]\n", *lines, "[MontSection = 0]\nTiltAngle = 0\n"]
    for text in ("\n".join(whole), "\n".join(whole).replace(" = ", "="), "\n".join(whole[:1] + lines[::-1])):
        (tmp_path / "s.mdoc").write_bytes(text.encode("latin-1"))
        found = read_angle_file(tmp_path / "s.mdoc")
        np.testing.assert_array_equal(found.angles_deg, ANGLES)
        np.testing.assert_allclose(found.times_s, np.arange(24) * 37)
        assert found.pixel_nm == pytest.approx(0.4)
    (tmp_path / "s.mdoc").write_text("\n".join(lines).replace("ZValue", "FrameSet"))
    np.testing.assert_array_equal(read_angle_file(tmp_path / "s.mdoc").angles_deg, ANGLES)


def test_a_text_too_long_is_refused_at_once(tmp_path):
    (tmp_path / "s.tlt").write_text("-60.00\n" * 2_000_000)
    with pytest.raises(InputError, match="13 MB are too many"):
        read_angle_file(tmp_path / "s.tlt")
    (tmp_path / "s.tlt").write_text("-60.00\n" * 200_000)
    with pytest.raises(InputError, match="200000 lines are too many"):
        read_angle_file(tmp_path / "s.tlt")
    (tmp_path / "s.bin").write_bytes(b"\x00\x01\x02" * 100)
    with pytest.raises(InputError, match="not a text file; it must hold words"):
        read_text(tmp_path / "s.bin", "words")


def test_names_are_sorted_by_their_numbers_and_may_hold_the_angle(tmp_path):
    names = [tmp_path / f"ts_{i}.tif" for i in (1, 2, 10, 21, 100)]
    assert sorted(names[::-1], key=natural) == names
    found, alone = angles_in_names(["ts_-15.0", "ts_+3.0", "ts_12.0"])
    np.testing.assert_array_equal(found, [-15, 3, 12])
    assert alone
    found, alone = angles_in_names(["a_001_-15.0_2024-01-05", "a_002_3.0_2024-01-05", "a_003_9.0_2024-01-05"])
    np.testing.assert_array_equal(found, [-15, 3, 9])
    assert not alone
    assert angles_in_names(["ts-1", "ts-2", "ts-3"]) is None


@pytest.mark.parametrize("head", ["Tilt angle (rad)", "angle rad", "Tilt_angle (rad) time", "Time (s) angle (rad)"])
def test_a_header_may_hold_blanks_where_blanks_separate(tmp_path, head):
    columns = {"angle": ("-1.2", "0.0", "1.1"), "time": ("0", "45", "90")}
    named = [name for name in ("angle", "time") if name in head.lower()]
    named.sort(key=head.lower().index)
    lines = [" ".join(columns[name][i] for name in named) for i in range(3)]
    (tmp_path / "s.txt").write_text("\n".join([head, *lines]))
    angles, times = read_angles(tmp_path / "s.txt")
    np.testing.assert_allclose(angles, np.rad2deg([-1.2, 0, 1.1]))
    assert (times is None) == (len(named) == 1)
    assert times is None or list(times) == [0, 45, 90]


def test_of_a_few_decimal_commas_no_times_are_made(tmp_path):
    (tmp_path / "s.txt").write_text("8,72\n-45,95\n21,52\n")
    with pytest.raises(InputError, match="the commas may be decimal"):
        read_angles(tmp_path / "s.txt")
