"""A stand-in for Kaggle on 127.0.0.1: the part that downloading a model needs."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class KaggleServer(ThreadingHTTPServer):
    """Serves `models`: {"owner/model/variation": {version: {path: bytes}}}."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models, self.requests, self.refusal, self.md5 = {}, [], None, None
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Stay silent."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.path.rpartition("/")[2]
        self.server.requests.append((call, asked.get("path")))
        model = f"{asked['ownerSlug']}/{asked['modelSlug']}/{asked['instanceSlug']}"
        versions = self.server.models.get(model)
        files = (versions or {}).get(asked.get("versionNumber"))
        if self.server.refusal or versions is None:
            self.answer(self.server.refusal or 404, b"{}", "application/json")
        elif call == "GetModelInstance":
            self.answer_json({"versionNumber": max(versions)})
        elif files is None:
            self.answer(404, b"{}", "application/json")
        elif call == "ListModelInstanceVersionFiles":
            self.answer_json({"files": [{"name": name} for name in files], "nextPageToken": ""})
        elif call == "DownloadModelInstanceVersion":
            self.answer(200, files[asked["path"]], "application/octet-stream")

    def answer_json(self, value):
        self.answer(200, json.dumps(value).encode(), "application/json")

    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if self.server.md5:
            self.send_header("X-Goog-Hash", f"md5={self.server.md5}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
