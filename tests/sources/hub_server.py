"""A stand-in for the Hugging Face hub on 127.0.0.1: the part that fetching files needs.

It answers what a repository holds at a revision, which revisions there are, and a file with
ETag, X-Repo-Commit and ranges. Tests bend it: `drop_after_bytes` cuts a connection, `gated`
refuses, `down` fails every request, `stall_after_bytes` holds a large file back.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE_FROM_BYTES = 1_000


class HubServer(ThreadingHTTPServer):
    """Serves `repositories`: {"models/owner/name": {commit: {path: bytes}}}, and `branches`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.branches = {}, {}
        self.requests, self.tokens, self.ranges = [], [], []
        self.gated, self.down, self.drops, self.drop_after_bytes = False, False, 0, 0
        self.stall_after_bytes, self.stalled, self._released = (
            0,
            threading.Event(),
            threading.Event(),
        )
        self.lies = {}  # what is sent instead of a file
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def go_on(self):
        """Stall no longer."""
        self.stall_after_bytes = 0
        self._released.set()

    def wait(self):
        """Stall until told to go on."""
        self.stalled.set()
        self._released.wait(60)

    def handle_error(self, request, client_address):
        """Say nothing of clients that were killed."""

    def add(self, repository, files, *, branch="main"):
        """Commit files to a branch; returns the commit."""
        commit = hashlib.sha1(repr((repository, sorted(files.items()))).encode()).hexdigest()
        self.repositories.setdefault(repository, {})[commit] = files
        self.branches.setdefault(repository, {})[branch] = commit
        return commit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Stay silent."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        self.server.tokens.append(self.headers.get("Authorization"))
        if self.server.down:
            self.refuse(503, None)
        elif match := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/refs", path):
            self.answer_refs(match[1])
        elif match := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.answer_info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind = (match[1] or "models/").rstrip("/")
            self.answer_file(f"{kind}/{match[2]}", match[3], match[4])
        else:
            self.refuse(404, None)

    def find(self, repository, revision):
        if repository not in self.server.repositories:
            self.refuse(401, "RepoNotFound")
            return None, None
        commits = self.server.repositories[repository]
        commit = self.server.branches[repository].get(revision, revision)
        if commit not in commits:
            self.refuse(404, "RevisionNotFound")
            return None, None
        return commit, commits[commit]

    def answer_refs(self, repository):
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
            for name, commit in self.server.branches[repository].items()
        ]
        self.answer_json({"branches": branches, "tags": [], "converts": []})

    def answer_info(self, repository, revision):
        commit, files = self.find(repository, revision)
        if commit is None:
            return
        siblings = []
        for name, content in files.items():
            sibling = {"rfilename": name, "size": len(content)}
            if len(content) >= LARGE_FROM_BYTES:
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
                sibling["blobId"] = "0" * 40  # of the pointer
            else:
                blob = b"blob %d\0" % len(content) + content
                sibling["blobId"] = hashlib.sha1(blob).hexdigest()
            siblings.append(sibling)
        self.answer_json({"id": repository.partition("/")[2], "sha": commit, "siblings": siblings})

    def answer_file(self, repository, revision, name):
        commit, files = self.find(repository, revision)
        if commit is None:
            return
        if self.server.gated:
            self.refuse(403, "GatedRepo")
            return
        content = self.server.lies.get(name, files[name])
        total, start = len(content), 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(match[1])
            self.server.ranges.append(start)
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(total - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.drops and len(content) >= LARGE_FROM_BYTES:
            self.server.drops -= 1
            self.wfile.write(content[start : start + self.server.drop_after_bytes])
            self.close_connection = True
            return
        if self.server.stall_after_bytes and len(content) >= LARGE_FROM_BYTES:
            self.wfile.write(content[start : start + self.server.stall_after_bytes])
            self.server.wait()
            self.close_connection = True
            return
        self.wfile.write(content[start:])

    def answer_json(self, value):
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, code):
        self.answer(status, b"{}", {"X-Error-Code": code} if code else {})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
