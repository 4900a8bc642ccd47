"""A small stand-in for the Hugging Face hub: what its library asks to make, fill and read repositories of models."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Hub", "serve"]


class Hub:
    """Repositories by name: for each branch or tag its files, and the errors that some of them answer with."""

    def __init__(self):
        self.repositories = {}
        self.refusals = {}
        self.requests = []

    def commit(self, revision, repository):
        """Return what the hub calls a commit: of equal files the same."""
        files = self.repositories[repository][revision]
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    def files_of(self, repository, revision):
        """Return the files of a branch, a tag or a commit."""
        for name, files in self.repositories[repository].items():
            if revision in (name, self.commit(name, repository)):
                return files
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.hub.requests.append((self.command, self.path))
        found = re.match(r"/api/models/([\w.-]+/[\w.-]+)(?:/(revision|tree)/([^/?]+))?", self.path)
        file = re.match(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/([\w.-]+)", self.path)
        name = (found or file)[1]
        if refusal := self.server.hub.refusals.get(name):
            self.answer(refusal[0], {"error": refusal[1]}, {"X-Error-Code": refusal[1]})
        elif name not in self.server.hub.repositories:
            self.answer(404, {}, {"X-Error-Code": "RepoNotFound"})
        elif found:
            self.describe(name, found[2], found[3] or "main")
        else:
            self.send_file(name, file[2], file[3])

    def do_HEAD(self):
        self.do_GET()

    def describe(self, name, kind, revision):
        files = self.server.hub.files_of(name, revision)
        if files is None:
            self.answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            self.answer(200, listed)
        else:
            branch = next(each for each, held in self.server.hub.repositories[name].items() if held is files)
            siblings = [{"rfilename": path} for path in files]
            self.answer(200, {"id": name, "sha": self.server.hub.commit(branch, name), "siblings": siblings})

    def send_file(self, name, revision, path):
        content = (self.server.hub.files_of(name, revision) or {}).get(path)
        if content is None:
            self.answer(404, {}, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": revision}
        self.answer(200, content, headers)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub = self.server.hub
        hub.requests.append((self.command, self.path))
        if self.headers.get("Authorization") == "Bearer wrong":
            self.answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            hub.repositories.setdefault(name, {"main": {}})
            self.answer(200, {"url": f"{self.server.url}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif found := re.match(r"/api/models/([\w.-]+/[\w.-]+)/preupload/", self.path):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif found := re.match(r"/api/models/([\w.-]+/[\w.-]+)/commit/(\w+)", self.path):
            self.commit(found[1], found[2], [json.loads(line) for line in body.splitlines()])

    def commit(self, name, branch, lines):
        files = self.server.hub.repositories[name].setdefault(branch, {})
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        sha = self.server.hub.commit(branch, name)
        self.answer(200, {"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def answer(self, status, content, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serve():
    """Yield a hub and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub, server.url = Hub(), f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.hub, server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
