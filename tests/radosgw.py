"""A radosgw on loopback, with the monitor and the OSD that it needs, all of them in one folder.

Enters: the folder into which tests/install_radosgw.sh has unpacked them. Leaves: an endpoint and a
pair of keys, for as long as the block runs. It keeps everything in memory and forgets it.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120.0

_CONFIGURATION = """
[global]
fsid = {fsid}
run dir = {work}/run
admin socket = {work}/run/$cluster-$name.asok
keyring = {work}/keyring
mon initial members = a
mon host = [v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
log file = {work}/log/$name.log
erasure code dir = {root}/usr/lib/{triplet}/ceph/erasure-code
osd class dir = {root}/usr/lib/{triplet}/rados-classes
plugin dir = {root}/usr/lib/{triplet}/ceph
public addr = 127.0.0.1
ms bind ipv6 = false
[mon]
mon data = {work}/mon
mon data avail crit = 1
[osd]
osd data = {work}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd class load list = *
osd class default list = *
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
rgw thread pool size = 64
"""


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and who may ask."""

    endpoint: str
    access_key: str
    secret_key: str


@contextmanager
def radosgw(root: Path) -> Iterator[S3Server]:
    """A running server; nothing of it stays."""
    work = Path(tempfile.mkdtemp(prefix="radosgw-"))
    cluster = _Cluster(root, work)
    try:
        yield cluster.start()
    except BaseException:
        for log in sorted((work / "log").glob("*.log")):
            print(f"== {log.name}\n" + "".join(log.open(errors="replace").readlines()[-20:]))
        raise
    finally:
        cluster.stop()
        shutil.rmtree(work, ignore_errors=True)


class _Cluster:
    def __init__(self, root: Path, work: Path) -> None:
        self._root = root.resolve()
        self._work = work
        self._running: list[subprocess.Popen[bytes]] = []
        triplet = subprocess.check_output(["gcc", "-print-multiarch"], text=True).strip()
        libraries = [f"usr/lib/{triplet}", f"usr/lib/{triplet}/ceph", f"lib/{triplet}", "usr/lib"]
        path = ":".join(str(self._root / one) for one in libraries)
        self._environment = os.environ | {"LD_LIBRARY_PATH": path}
        self._port = _free_port()
        for name in ("run", "log", "mon", "osd"):
            (work / name).mkdir()
        values = {"fsid": uuid.uuid4(), "work": work, "root": self._root, "triplet": triplet}
        values |= {"mon1": _free_port(), "mon2": _free_port(), "port": self._port}
        self._mons = f"[v2:127.0.0.1:{values['mon2']},v1:127.0.0.1:{values['mon1']}]"
        self._fsid = str(values["fsid"])
        (work / "ceph.conf").write_text(_CONFIGURATION.format(**values))

    def start(self) -> S3Server:
        keyring, monmap = str(self._work / "keyring"), str(self._work / "monmap")
        rights = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", *rights)
        for name in ("client.admin", "osd.0", "client.rgw"):
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, *rights)
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", self._mons, monmap)
        mon = ("-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._run("ceph-mon", "--mkfs", *mon)
        self._spawn("ceph-mon", "-i", "a")
        shutil.copy(keyring, self._work / "osd" / "keyring")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()))
        self._spawn("ceph-osd", "-i", "0")
        self._spawn("radosgw", "-n", "client.rgw")
        self._wait()
        user = ("user", "create", "--uid=tests", "--display-name=tests", "-n", "client.rgw")
        told = json.loads(self._run("radosgw-admin", *user))["keys"][0]
        return S3Server(f"http://127.0.0.1:{self._port}", told["access_key"], told["secret_key"])

    def stop(self) -> None:
        for process in reversed(self._running):
            process.kill()
            process.wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            for process in self._running:
                assert process.poll() is None, process.args
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.5)
        raise TimeoutError("radosgw doesn't listen")

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            self._command(program, *arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stderr}"
        return done.stdout

    def _spawn(self, program: str, *arguments: str) -> None:
        command = self._command(program, "-f", *arguments)
        with (self._work / "log" / f"{program}.log").open("wb") as out:
            self._running.append(
                subprocess.Popen(command, env=self._environment, stdout=out, stderr=out)
            )

    def _command(self, program: str, *arguments: str) -> list[str]:
        configured = (
            ()
            if program in ("ceph-authtool", "monmaptool")
            else ("-c", str(self._work / "ceph.conf"))
        )
        return [str(self._root / "usr" / "bin" / program), *configured, *arguments]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
