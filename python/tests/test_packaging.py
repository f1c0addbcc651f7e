"""The wheel for platforms without the native module, and which wheel pip takes where."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The pure wheel, and a stand-in with the tags of the other one."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run([sys.executable, str(HERE / "build-pure-wheel"), str(folder)], check=True, capture_output=True)
    (pure,) = folder.glob("*.whl")
    tags = "cp310-abi3-manylinux_2_17_x86_64"
    with zipfile.ZipFile(pure) as old, zipfile.ZipFile(folder / pure.name.replace("py3-none-any", tags), "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"Tag: py3-none-any", f"Tag: {tags}".encode()))
    return folder


def test_the_pure_wheel_has_the_package_alone(wheels):
    (pure,) = wheels.glob("*none-any.whl")
    names = zipfile.ZipFile(pure).namelist()
    modules = {f"shmcreds/{path.name}" for path in (HERE / "shmcreds").glob("*.py")}
    assert modules <= set(names) and "shmcreds/py.typed" in names
    assert not any("_native." in name or "tests" in name for name in names)


@pytest.mark.parametrize(
    ("platform", "tags"),
    [
        ("macosx_11_0_arm64", "none-any"),
        ("win_amd64", "none-any"),
        ("manylinux_2_17_aarch64", "none-any"),
        ("musllinux_1_2_x86_64", "none-any"),
        ("manylinux_2_17_x86_64", "manylinux_2_17_x86_64"),
    ],
)
def test_what_pip_takes(wheels, tmp_path, platform, tags):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-index", "--find-links", str(wheels)]
    command += ["--no-deps", "--only-binary", ":all:", "--platform", platform, "--dest", str(tmp_path), "shmcreds"]
    subprocess.run(command, check=True, capture_output=True)
    (taken,) = tmp_path.glob("*.whl")
    assert taken.name.endswith(f"{tags}.whl")
