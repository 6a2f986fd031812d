"""Artifact to answers: files, and a server that speaks TF Serving's API."""

from tfmodel.serve.files import answer_file, answer_lines
from tfmodel.serve.server import Server
from tfmodel.serve.settings import ServeSettings, serve_settings

__all__ = ["Server", "ServeSettings", "answer_file", "answer_lines", "serve_settings"]
