"""Static files at addresses that hold their content's hash, so that browsers may keep them for ever.

plotly.js is served from the installed plotly package and Swagger UI from that of fastapi_offline: nothing is fetched from
elsewhere and no third-party script is kept in this repository.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import plotly

from service.web.palette import stylesheet_rules

HERE = Path(__file__).parent
# A style element that plotly's map bundle would add inline, against `style-src 'self'`. It looks for the id first.
_INLINE_STYLE_GUARD = re.compile(r'document\.getElementById\("([0-9a-f]{64})"\)')
_KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """One file: ``url_name`` is ``stem.hash.suffix``."""

    url_name: str
    media_type: str
    content: bytes = field(repr=False)

    @cached_property
    def packed(self) -> bytes | None:
        """Its gzip, made when first asked for: most commands start an API that nobody looks at. None where it saves nothing."""
        packed = gzip.compress(self.content, compresslevel=6, mtime=0)
        return packed if len(packed) < len(self.content) else None


@dataclass(frozen=True)
class Assets:
    """All static files by the name in the address. ``guard_ids`` are element ids that every page with charts must hold."""

    by_url_name: dict[str, Asset]
    urls: dict[str, str]
    guard_ids: tuple[str, ...]


def _asset(name: str, content: bytes) -> Asset:
    stem, suffix = name.rsplit(".", 1)
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Asset(f"{stem}.{digest}.{suffix}", _KINDS[suffix], content)


@lru_cache(maxsize=1)
def load_assets() -> Assets:
    """Read and hash every static file once a process."""
    script = (files(plotly) / "package_data" / "plotly.min.js").read_bytes()
    sources = {
        path.name: path.read_bytes() for path in sorted((HERE / "static").iterdir()) if path.suffix[1:] in _KINDS
    }
    sources["app.css"] += stylesheet_rules().encode()
    sources["plotly.min.js"] = script
    swagger = files("fastapi_offline") / "static"
    sources |= {name: (swagger / name).read_bytes() for name in ("swagger-ui-bundle.js", "swagger-ui.css")}
    assets = {name: _asset(name, content) for name, content in sources.items()}
    return Assets(
        by_url_name={asset.url_name: asset for asset in assets.values()},
        urls={name: f"/static/{asset.url_name}" for name, asset in assets.items()},
        guard_ids=tuple(dict.fromkeys(_INLINE_STYLE_GUARD.findall(script.decode()))),
    )
