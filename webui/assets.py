"""Static files under names that carry their content's hash, so that browsers may keep them for ever.

A dozen small files: read and compressed once at start, served from memory, nothing compressed per request.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Response, abort, request

STATIC = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    url: str
    content_type: str
    plain: bytes
    packed: bytes


def load() -> dict[str, Asset]:
    """Every file of `static/` by its plain name."""
    assets = {}
    for path in sorted(STATIC.iterdir()):
        plain = path.read_bytes()
        digest = hashlib.sha256(plain).hexdigest()[:10]
        url = f"/assets/{path.stem}.{digest}{path.suffix}"
        assets[path.name] = Asset(url, TYPES[path.suffix], plain, gzip.compress(plain, 9, mtime=0))
    return assets


def blueprint(assets: dict[str, Asset]) -> Blueprint:
    pages = Blueprint("assets", __name__)
    by_url = {asset.url: asset for asset in assets.values()}

    def serve(name: str) -> Response:
        asset = by_url.get(f"/assets/{name}")
        if asset is None:
            abort(404)
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        answer = Response(asset.packed if packed else asset.plain, content_type=asset.content_type)
        if packed:
            answer.headers["Content-Encoding"] = "gzip"
        answer.headers["Vary"] = "Accept-Encoding"
        answer.headers["Cache-Control"] = FOR_EVER
        return answer

    pages.add_url_rule("/assets/<name>", "serve", serve)
    return pages
