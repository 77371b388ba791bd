"""A host's clock is set back and forth by hours under a running daemon: it decides nothing.

In `make prove` (CLOCK_JUMPS=1): it needs a C compiler. What the logs say of time stays as it was written.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.commandline import rows, scalple
from tests.daemons import DaemonProcess
from tests.test_daemon import SAID, Writer, configuration, read_at_once

JUMPS_S = (7200, -7200, 86_400 * 40, -86_400 * 400, 3, 0)


@pytest.mark.skipif(not os.environ.get("CLOCK_JUMPS"), reason="longer: CLOCK_JUMPS=1")
def test_a_clock_that_jumps_by_hours_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "needs a C compiler"
    library, offset = tmp_path / "clockjump.so", tmp_path / "offset"
    source = Path(__file__).with_name("clockjump.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    offset.write_text("0")
    (tmp_path / "logs").mkdir()
    writer = Writer(tmp_path / "logs")
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("CLOCK_OFFSET_FILE", str(offset))
        daemon = DaemonProcess(tmp_path, configuration(tmp_path))
        daemon.start()
    try:
        for jump_s, moment in zip(JUMPS_S, writer.moments(len(JUMPS_S)), strict=True):
            offset.write_text(str(jump_s))
            writer.write(moment, torn=37)
            begun = time.monotonic()
            daemon.drain()
            assert time.monotonic() - begun < 20
            assert daemon.page("ready") == "ready\n"
            figures = daemon.page("metrics").splitlines()
            seconds = [one for one in figures if one.startswith("scalple_") and "_seconds" in one]
            ages = [one for one in seconds if "newest" not in one and "compaction" not in one]
            assert all(0 <= float(one.split()[-1]) < 60 for one in ages), ages
        daemon.drain()
        daemon.wait_until(lambda: daemon.metric("revising") == 0)
    finally:
        daemon.stop()
    store = tmp_path / "store"
    assert rows(store, f"SELECT {SAID} FROM audit ORDER BY source_offset") == read_at_once(tmp_path)
    assert rows(store, "SELECT * FROM gaps") == []
    assert scalple("verify", "--store", store).code == 0
