"""Checks a proof of scalple-ingest with the log's public key alone (FORMAT.md, "Proof"):
python3 check_proof.py row.proof db1.pub    needs `cryptography`, and columns.json beside this file;
prints each row as it is stored, times in microseconds since 1970-01-01 UTC."""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

COLUMNS = json.loads(Path(__file__).with_name("columns.json").read_text())
FIXED = {"uint64": 8, "int64": 8, "int32": 4, "bool": 1, "time": 8}


def need(holds, what):
    if not holds:
        raise ValueError(what)


def from_base64(text):
    need(base64.b64encode(base64.b64decode(text)).decode() == text, "base64 isn't canonical")
    return base64.b64decode(text)


def open_checkpoint(note, keys):  # `keys` are lines of verifier keys
    origin, size, root, blank, line, end = note.split("\n")
    need(blank == end == "" and size == str(int(size)), "a checkpoint isn't canonical")
    signed = from_base64(line.removeprefix(f"— {origin} "))
    known = {tuple(one.split("+", 2)[:2]): one.split("+", 2)[2] for one in keys.splitlines()}
    key = from_base64(known.get((origin, signed[:4].hex()), ""))
    hashed = hashlib.sha256(f"{origin}\n".encode() + key).digest()
    need(key[:1] == b"\1" and hashed[:4] == signed[:4], "not signed by a key that was given")
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(signed[4:], note[: -len(line) - 2].encode())
    return origin, int(size), from_base64(root)


def check_inclusion(leaf, at, size, path, root):  # RFC 9162, 2.1.3.2
    found, last = hashlib.sha256(b"\0" + leaf).digest(), size - 1
    need(0 <= at <= last, "an index is outside its tree")
    for step in map(from_base64, path):
        need(last, "a path is too long")
        left = at & 1 or at == last
        found = hashlib.sha256(b"\1" + (step + found if left else found + step)).digest()
        height = (at & -at).bit_length() if left else 1  # up to where the next one joins
        at, last = at >> height, last >> height
    need(not last and found == root, "a path doesn't lead to the root")


def decode(kind, data):  # FORMAT.md, "Row encoding"
    if isinstance(kind, str):
        number = int.from_bytes(data, "big", signed=kind != "uint64")
        return {"string": bytes.decode, "binary": bytes.hex}.get(kind, lambda _: number)(data)
    items = []
    while isinstance(kind, list) and data:
        end = 4 + int.from_bytes(data[:4], "big") % (2**32 - 1)  # all ones are NULL
        items.append(None if data[:4] == b"\xff" * 4 else decode(kind[0], data[4:end]))
        data = data[end:]
    if isinstance(kind, list):
        return items
    at, values = (len(kind) + 7) // 8, dict.fromkeys(kind)
    present = [name for bit, name in enumerate(kind) if not data[bit // 8] >> bit % 8 & 1]
    for name in sorted(kind, key=lambda one: str(kind[one]) not in FIXED):  # fixed widths first
        size = FIXED.get(str(kind[name]), 0)
        if not size and name in present:
            at, size = at + 4, int.from_bytes(data[at : at + 4], "big")
        values[name] = decode(kind[name], data[at : at + size]) if name in present else None
        at += size
    need(at == len(data), "a row doesn't end where it should")
    return values


def check(text, keys):  # name -> values of every row that the proof proves
    proof, segments, rows = json.loads(text), {}, {}
    need(json.dumps(proof, ensure_ascii=False, indent=1) + "\n" == text, "not as `prove` writes it")
    for one in proof["manifests"]:
        said, (lines, _, note) = json.loads(one["manifest"]), one["tlog_proof"].partition("\n\n")
        (head, index, *path), (origin, size, root) = lines.split("\n"), open_checkpoint(note, keys)
        check_inclusion(one["manifest"].encode(), one["n"], size, path, root)
        need((head, index) == ("c2sp.org/tlog-proof@v1", f"index {one['n']}"), "not a tlog-proof")
        need(said["n"] == one["n"] and origin == said["origin"] == one["origin"], "not this log's")
        segments[origin, one["n"]] = said["segments"]
    for row in proof["rows"]:
        origin, kind, seq, data = row["origin"], row["kind"], row["seq"], from_base64(row["row"])
        parts = [one for one in segments[origin, row["manifest"]] if one["kind"] == kind]
        part = max((x for x in parts if x["first_seq"] <= seq), key=lambda x: x["first_seq"])
        root, salt = bytes.fromhex(part["rows_root"]), from_base64(row["salt"])
        check_inclusion(salt + data, seq - part["first_seq"], part["rows"], row["path"], root)
        got = decode(COLUMNS[kind], data[1:])
        need((got["origin"], got["seq"], len(salt), data[0]) == (origin, seq, 16, 1), "another row")
        rows[f"{origin}{'' if kind == 'audit' else '/' + kind}#{seq}"] = got
    need(list(rows) == list(dict.fromkeys(row["id"] for row in proof["rows"])), "another's name")
    first = sorted(list(rows)[: len(proof["proves"])])
    need((1, first) == (proof["v"], sorted(proof["proves"])), "a row that was asked for is missing")
    return rows


if __name__ == "__main__":
    print(json.dumps(check(*(Path(x).read_bytes().decode() for x in sys.argv[1:3])), indent=1))
