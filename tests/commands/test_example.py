"""`dip4d example` writes what its configuration reads, checked, and overwrites nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dip4d.__main__ import main
from dip4d.commands import example
from dip4d.config.load import load_config
from tests.helpers import ROOT


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> bytes:
    """A stand-in for the package, which pip is made to bring; its checksum is the one expected."""
    path = tmp_path / "stand-in.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside in example._FILES:
            archive.writestr(example._INSIDE + inside, inside.encode())
    raw = path.read_bytes()

    def pip(command, **options):
        (Path(command[command.index("--dest") + 1]) / "etspy-1.3.0-py3-none-any.whl").write_bytes(raw)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(example, "_SHA256", hashlib.sha256(raw).hexdigest())
    return raw


def test_example_writes_what_the_config_reads(wheel, tmp_path, capsys, monkeypatch):
    config = ROOT / "configs" / "needle.yaml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dip4d"])
    assert main(["example", "needle"]) == 0
    assert (tmp_path / OmegaConf.load(config).data.path).read_bytes() == b"HAADF_Aligned.hspy"
    assert (tmp_path / "data" / "needle_raw.mrc").is_file()
    (line,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("reconstruct it: ")]
    program, keys = line.removeprefix("reconstruct it: ").split(" data.path=")
    assert program == "dip4d reconstruct"
    assert load_config(f"data.path={keys}".split()).data == load_config([str(config)]).data
    assert main(["example", "needle"]) == 0
    assert "there already" in capsys.readouterr().out


def test_example_refuses_a_wrong_checksum_and_overwrites_nothing(wheel, tmp_path, capsys, monkeypatch):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "needle_raw.mrc").write_text("mine")
    assert main(["example", "needle", "--out", str(out)]) == 2
    assert "exist already" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["needle_raw.mrc"]
    monkeypatch.setattr(example, "_SHA256", "0" * 64)
    assert main(["example", "needle", "--out", str(tmp_path / "new")]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_example_says_why_pip_failed(tmp_path, capsys, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    assert main(["example", "needle", "--out", str(tmp_path)]) == 2
    assert "ERROR: no network" in capsys.readouterr().err
