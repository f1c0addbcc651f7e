"""The wheel for platforms without the native module, and which wheel pip takes where."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging import tags
from packaging.utils import parse_wheel_filename

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


@pytest.mark.parametrize(
    ("version", "abi", "platform_fits"),
    [((3, 10), "cp310", True), ((3, 14), "cp314", True), ((3, 13), "cp313t", False), ((3, 14), "cp314t", False)],
)
def test_which_builds_of_python_take_the_native_module(wheels, version, abi, platform_fits):
    # A free-threaded build, with the t, has no stable ABI.
    platforms = ["manylinux_2_17_x86_64"]
    known = {*tags.cpython_tags(version, [abi], platforms), *tags.compatible_tags(version, None, platforms)}
    fits = {path.name: bool(known & parse_wheel_filename(path.name)[3]) for path in wheels.glob("*.whl")}
    (native,) = (name for name in fits if "abi3" in name)
    assert fits.pop(native) is platform_fits
    assert list(fits.values()) == [True]
