"""What of a log is left: what expired, what is held, and which files nothing needs any more.

Manifests of an origin enter; `Expired`, holds and paths leave. Reads the objects in which the log says
so, from the newest back; whether each was allowed is `expirycheck`'s.
"""

from datetime import datetime
from pathlib import Path

from scalple.ingest.errors import VerificationError
from scalple.store import holds
from scalple.store.chain import Chain, read_object, read_settled
from scalple.store.expiry import EXPIRED, Expired, Expiry
from scalple.store.holds import HOLDS, Hold, Holds
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, existing_origins, origin_layout
from scalple.store.manifest import Manifest
from scalple.store.manifests import Manifests


def read_expired(layout: OriginLayout, manifests: Manifests) -> Expired:
    """Everything that expired, as the log says.

    Raises:
        VerificationError: an expiry can't be read, isn't this log's, or one of before is left out.
    """
    found: list[tuple[int, Expiry]] = []
    manifest = manifests.newest(EXPIRED)
    while manifest is not None:
        act = read_expiry(layout, manifest)
        found.append((manifest.n, act))
        manifest = None if act.previous is None else manifests[act.previous]
    return Expired(found[::-1])


def read_expiry(layout: OriginLayout, manifest: Manifest) -> Expiry:
    """What expires with one manifest; raises as `read_expired`."""
    place = str(layout.manifest(manifest.n))
    if EXPIRED not in manifest.objects:
        raise VerificationError("no expiry where a later one says", place=place)
    act = Expiry.from_bytes(read_object(layout, manifest.objects[EXPIRED]))
    if act.origin != layout.origin or max(part.end for part in act.parts) > manifest.n:
        raise VerificationError("an expiry isn't about this log", place=place, found=act.origin)
    if act.previous is not None and act.previous >= manifest.n:
        raise VerificationError("an expiry follows a later one", place=place)
    return act


def read_holds(layout: OriginLayout, manifests: Manifests) -> Holds:
    """All holds that there were, as the newest list says.

    Raises:
        VerificationError: it can't be read.
    """
    manifest = manifests.newest(HOLDS)
    return holds.from_bytes(read_object(layout, manifest.objects[HOLDS])) if manifest else ()


def inherited_holds(layout: OriginLayout, chain: Chain) -> Holds:
    """Holds of the store's other logs that were in force before this one began, and that it never had: who
    placed them couldn't name it.

    Raises:
        VerificationError: another log can't be read.
    """
    if not chain.tree.size:
        return ()
    began = datetime.fromisoformat(chain.manifests[0].committed_at)
    names = {*existing_origins(layout.store_dir), ACCESS_ORIGIN} - {layout.origin}
    found: dict[str, Hold] = {}
    for other in (origin_layout(layout.store_dir, name) for name in sorted(names)):
        if not other.directory.is_dir():
            continue
        known = read_holds(other, read_settled(other)[0].manifests)
        early = [one for one in known if datetime.fromisoformat(one.placed_at) < began]
        found |= {one.id: one for one in early if one.in_force}
    own = {one.id for one in read_holds(layout, chain.manifests)}
    return tuple(one for name, one in found.items() if name not in own)


def files_of(layout: OriginLayout, manifest: Manifest) -> dict[Path, str]:
    """The segments and objects that a manifest names, with their hashes."""
    found = {layout.segments / one.file: one.sha256 for one in manifest.segments}
    named = [*manifest.objects.values(), manifest.positions_object]
    return found | {layout.object(sha256): sha256 for sha256 in named if sha256}


def gone_files(layout: OriginLayout, chain: Chain) -> dict[Path, str]:
    """The files that only what expired needs: these may be there no more."""
    expired = chain.manifests.expired
    if not expired.acts:
        return {}
    kept: set[Path] = set()
    gone: dict[Path, str] = {}
    for manifest in chain.manifests:
        left = expired.left(manifest)
        kept.update(files_of(layout, left))
        if left is not manifest:
            gone |= files_of(layout, manifest)
    return {path: sha256 for path, sha256 in gone.items() if path not in kept}
