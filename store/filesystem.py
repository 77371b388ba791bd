"""On which file systems a lock on a directory reaches every host that could write there.

An open directory enters; StoreError leaves where other hosts wouldn't see its lock, unless the
operator has said that there are none. The kernel's clients of NFS, SMB and FUSE keep locks on
directories to themselves: their directory operations have no `flock`, so that it is made here and
no server is asked. Ceph, GFS2 and OCFS2 do ask.
"""

import os
from pathlib import Path

from scalple.ingest.errors import StoreError

MOUNTS = Path("/proc/self/mountinfo")
SHARED = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "lustre",
        "beegfs",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.goofys",
        "fuse.gcsfuse",
        "fuse.mountpoint-s3",
        "fuse.blobfuse2",
        "fuse.juicefs",
    ]
)
"""Types of file systems that other hosts can have mounted, and don't tell of directory locks."""

_only_here: set[Path] = set()


def only_this_host(store_dir: Path, believed: bool = True) -> None:
    """Whether this process believes from now on that no other host writes to the store."""
    (_only_here.add if believed else _only_here.discard)(store_dir)


def refuse_shared(store_dir: Path, descriptor: int) -> None:
    """Returns where a lock on the directory keeps every other writer out.

    Raises:
        StoreError: other hosts wouldn't see it, and nobody has said that there are none.
    """
    kind = type_of(os.fstat(descriptor).st_dev)
    if kind not in SHARED or store_dir in _only_here:
        return
    raise StoreError(
        f"lies on a network file system ({kind}), where a lock on a directory keeps no other host "
        "from writing",
        place=str(store_dir),
        hint="keep the store on a local disk, and let `mirror` copy it; who only asks needs no right "
        "to write there, with --access-log DIR. If this is the only host that ever writes there: "
        "only_host = true in the configuration",
    )


def type_of(device: int) -> str | None:
    """The type of a mounted file system, by its device; None where the system doesn't say."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        mount, _, about = line.partition(" - ")  # any number of optional fields stands before it
        words = mount.split()
        if len(words) > 2 and words[2] == number:
            return about.split()[0] if about else None
    return None
