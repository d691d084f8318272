"""The page at `/`: what answers here, for a person who opens the address in a browser. Nothing of patients."""

import base64
import hashlib
from html import escape
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from server.edges.context import node, request_id

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: color-mix(in srgb, currentColor 65%, transparent); }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 42rem; padding: 3rem 1.25rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; }
.version, footer { color: var(--quiet); }
.version { font-size: 1rem; font-weight: normal; margin-left: .4rem; white-space: nowrap; }
table { border-collapse: collapse; margin: 1.5rem 0; width: 100%; }
th, td { border-top: 1px solid var(--line); padding: .55rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; padding-right: 1.25rem; white-space: nowrap; }
td { overflow-wrap: anywhere; }
code { font: .92em/1.5 ui-monospace, monospace; }
footer { font-size: .92rem; }
@media (max-width: 30rem) { body { padding: 1.75rem 1rem; } th, td { display: block; } td { border: 0; padding-top: 0; } th { padding-bottom: 0; } }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_VERSION = version("imageshare")


def front(request: Request) -> Response:
    """The same for everybody. Links are relative, so that they hold also below a path of a reverse proxy."""
    base = escape(node(request).settings.base_url)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>imageshare</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>imageshare <span class="version">version {escape(_VERSION)}</span></h1>
<p>A medical image exchange, for programs and for people.</p>
<table>
<tr><th scope="row">People</th><td><a href="sign-in">Sign in</a></td></tr>
<tr><th scope="row">FHIR R4</th><td><code>{base}/fhir</code><br><a href="fhir/metadata">CapabilityStatement</a></td></tr>
<tr><th scope="row">DICOMweb</th><td><code>{base}/dicomweb</code></td></tr>
<tr><th scope="row">Health</th><td><a href="livez">livez</a> · <a href="readyz">readyz</a></td></tr>
</table>
</main>
<footer>The README that comes with imageshare tells how to send images and how to get a token:
<code>imageshare token --help</code>.</footer>
</body>
</html>
"""
    return HTMLResponse(page, headers={**_HEADERS, "X-Request-Id": request_id(request)})
