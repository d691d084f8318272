"""A person at npm's oidc-provider: signs in there, agrees, and comes back."""

from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2


def came_back(url: str, back: str, name: str = "anna") -> list[tuple[str, str]]:
    """From the address that a browser is sent to, to the parameters that it brings back to `back`."""
    with httpx2.Client() as browser:
        found = browser.get(url)
        for _ in range(12):
            while found.is_redirect:
                url = urljoin(str(found.url), found.headers["location"])
                if url.startswith(back):
                    return parse_qsl(urlsplit(url).query)
                found = browser.get(url)
            assert found.status_code == 200, found.text
            prompt = "login" if 'value="login"' in found.text else "consent"
            found = browser.post(str(found.url), data={"prompt": prompt, "login": name, "password": "x"})
    raise AssertionError("the provider did not let anybody back")
