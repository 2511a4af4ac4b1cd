"""A clean machine for a test: this one's files in an overlay, with everything that is written thrown away at the end.

It needs Linux and the rights to mount. The network is its own and has nothing but the loopback address.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ENTER = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
ip link set lo up
exec chroot "$1/root" bash "$2"
"""
SECONDS = 300


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script as root of the clean machine. What it starts ends with it. folder: an empty one."""
    mounts, text = folder / "mounts", folder / "script"
    mounts.mkdir()
    text.write_text(script)
    return subprocess.run(
        [
            str(shutil.which("unshare")), "--mount", "--net", "--pid", "--fork", "--kill-child",
            "--propagation", "private",
            "bash", "-c", ENTER, "bash", str(mounts), str(text),
        ],
        env={"PATH": f"{Path(python()).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )  # fmt: skip


@functools.cache
def is_possible() -> bool:
    """Whether this machine lets us make one."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    probe = 'd=$(mktemp -d) && mount -t tmpfs t "$d" && mkdir "$d/u" "$d/w" "$d/m" && '
    probe += 'mount -t overlay o -o "lowerdir=/,upperdir=$d/u,workdir=$d/w" "$d/m"; s=$?; umount -R "$d"; exit $s'
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--propagation", "private", "bash", "-c", probe]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def python() -> str:
    """The interpreter behind the one that runs the tests, outside of any virtual environment."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def packages() -> str:
    """A shell command that gives /srv/lnpay's environment the packages of this one, without a network."""
    folders = [path for path in sys.path if path.endswith("site-packages")]
    lines = shlex.quote("\n".join(folders))
    return f"printf '%s\\n' {lines} > \"$(echo /srv/lnpay/.venv/lib/python3*/site-packages)/lent.pth\""
