"""Lets the hub's own Python package fill a cache: `hub_package.py ENDPOINT CACHE plain|shared|files REPO...`

`shared` makes the package keep files in its store of blobs that repositories share. It does so for files
that came over the hub's chunked protocol, which the test's server does not speak; so the bytes come by
HTTP, and everything else, above all the layout on disk, is the package's own doing.
"""

import hashlib
import os
import sys
import urllib.request

endpoint, cache, layout = sys.argv[1:4]
os.environ.update(HF_ENDPOINT=endpoint, HF_HUB_CACHE=cache, HF_HOME=cache + "-home", HF_HUB_DISABLE_TELEMETRY="1")
os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_SYMLINKS_WARNING="1")
if layout == "plain":
    os.environ["HF_HUB_DISABLE_XET"] = "1"
if layout == "files":
    os.environ["HF_HUB_DISABLE_SYMLINKS"] = "1"

import huggingface_hub
from huggingface_hub import HfApi, file_download, hf_hub_download, snapshot_download

now = {}


def known_hash(response, endpoint=None):
    etag = (response.headers.get("X-Linked-Etag") or "").strip('"')
    if len(etag) != 64:
        return None
    name = hashlib.sha256(b"chunked " + etag.encode()).hexdigest()
    return file_download.XetFileData(file_hash=name, refresh_route="/unused")


def by_http(*, incomplete_path, displayed_filename=None, **_):
    url = f"{endpoint}/{now['repo']}/resolve/main/{displayed_filename}"
    with urllib.request.urlopen(url) as answer, open(incomplete_path, "wb") as file:
        file.write(answer.read())


if layout == "shared":
    file_download.parse_xet_file_data_from_response = known_hash
    file_download.xet_get = by_http
    file_download.is_xet_available = lambda: True

for repo in sys.argv[4:]:
    now["repo"] = repo
    if layout == "shared":
        for name in HfApi(endpoint=endpoint).list_repo_files(repo):
            hf_hub_download(repo, name)
    else:
        snapshot_download(repo)
print(huggingface_hub.__version__)
