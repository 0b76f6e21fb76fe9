"""A hub that lives in this process: what is downloaded, cached, and said when it is not there."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from autodir import checkpoint, hub
from autodir.checkpoint import find_model, load_model
from autodir.errors import CheckpointError
from autodir.pipeline import Restorer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "friends/tiny"


class Hub:
    """As much of the hub's protocol as a download needs.

    Attributes:
        url: where it listens.
        asked: the paths of all requests.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        files = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file()
        }
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(with_body=True)

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _answer(self, *, with_body: bool) -> None:
                outer.asked.append(self.path)
                path = self.path.partition("?")[0]
                headers = {"X-Repo-Commit": COMMIT}
                if "/gated" in path:
                    status, body = 403, b"{}"
                    headers["X-Error-Code"] = "GatedRepo"
                elif not path.removeprefix("/api/models").startswith(f"/{NAME}"):
                    status, body = 404, b"{}"
                    headers["X-Error-Code"] = "RepoNotFound"
                elif path.startswith("/api/"):
                    names = [{"rfilename": name} for name in files]
                    tree = [
                        {"type": "file", "path": name, "size": file.stat().st_size, "oid": name}
                        for name, file in files.items()
                    ]
                    told = {"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": names}
                    status, body = 200, json.dumps(tree if "/tree/" in path else told).encode()
                    headers["Content-Type"] = "application/json"
                else:
                    body = files[path.partition(f"/resolve/{COMMIT}/")[2]].read_bytes()
                    status = 200
                    headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()}"'
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a working folder without anything in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    return tmp_path / "cache"


@pytest.fixture
def served(cache: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    running = Hub(tiny_model_folder)
    monkeypatch.setattr(constants, "ENDPOINT", running.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE",
        running.url + "/{repo_id}/resolve/{revision}/{filename}",
    )  # fmt: skip
    yield running
    running.close()


@pytest.fixture
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_hub_name_is_downloaded_verified_and_loaded(served: Hub, cache: Path) -> None:
    restorer = Restorer.from_pretrained(NAME, device="cpu")
    assert restorer.model.scale == "tiny"
    assert restorer.info["model"] == NAME
    assert find_model(NAME).is_relative_to(cache)


def test_what_was_downloaded_once_serves_without_a_network(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_model(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(served.asked)
    assert load_model(NAME).scale == "tiny"
    assert len(served.asked) == before


def test_only_files_of_a_model_are_asked_for(served: Hub, tiny_model_folder: Path) -> None:
    find_model(NAME)
    resolved = {path.partition(f"/resolve/{COMMIT}/")[2] for path in served.asked} - {""}
    stored = {p.relative_to(tiny_model_folder).as_posix() for p in tiny_model_folder.rglob("*")}
    assert resolved <= stored
    assert "unet/model.safetensors" in resolved
    assert not any(name.endswith(checkpoint.PICKLES) for name in resolved)


@pytest.mark.parametrize(
    ("name", "words"),
    [("friends/nobody", "no repository"), ("friends/gated", "accepted its terms")],
)
def test_a_closed_or_missing_repository_is_explained(served: Hub, name: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        find_model(name)
    assert "HF_TOKEN" in caught.value.hint


@pytest.mark.usefixtures("offline")
def test_without_a_network_the_answer_says_what_to_do() -> None:
    with pytest.raises(CheckpointError, match="friends/tiny is not in the cache") as caught:
        Restorer.from_pretrained(NAME, device="cpu")
    assert "HF_HUB_OFFLINE" in caught.value.hint
    assert "path" in caught.value.hint


def test_a_hub_that_does_not_answer_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=NAME):
        find_model(NAME)


@pytest.mark.parametrize(
    "name", ["small", "here/model", "a/b/c", "../model", "/tmp/model", "./model", "org/na me"]
)
def test_paths_and_known_names_never_reach_the_hub(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(cache.parent)
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("the network was asked"))
    assert not hub.is_hub_name(name)
    if name != "small":
        with pytest.raises(CheckpointError, match="no model"):
            find_model(name)
