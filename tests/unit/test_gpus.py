"""How many workers a machine gets, by what its nvidia-smi says and by what CUDA_VISIBLE_DEVICES allows."""

from pathlib import Path

import pytest

from common.local.gpus import visible_gpus

TWO = "echo 'GPU 0: A (UUID: GPU-1)'\necho '  MIG 1g.18gb Device 0: (UUID: MIG-1)'\necho 'GPU 1: B (UUID: GPU-2)'"


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        (None, ["0", "1"]),
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        ("0, 1", ["0", "1"]),
        ("GPU-2,GPU-1", ["GPU-2", "GPU-1"]),
        ("MIG-1", ["MIG-1"]),
        ("0,-1,1", ["0"]),  # CUDA does not look beyond the first that is not there
        ("0,5,1", ["0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_gpus_that_may_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str | None, found: list[str]
) -> None:
    put(tmp_path, monkeypatch, TWO)
    assert visible_gpus({} if allowed is None else {"CUDA_VISIBLE_DEVICES": allowed}) == found


@pytest.mark.parametrize("script", ["echo 'NVIDIA-SMI has failed' >&2; exit 9", "exit 0"])
def test_a_driver_that_has_no_gpu_gives_none_whatever_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    put(tmp_path, monkeypatch, script)
    assert visible_gpus({}) == visible_gpus({"CUDA_VISIBLE_DEVICES": "0,GPU-1"}) == []


def put(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
