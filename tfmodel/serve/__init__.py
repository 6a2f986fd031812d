"""Artifact to answers: files, and a server that speaks TF Serving's API, with its client."""

from tfmodel.serve.client import Client, Prediction, Stored
from tfmodel.serve.errors import ServingError
from tfmodel.serve.feedback.settings import FeedbackSettings
from tfmodel.serve.files import answer_file, answer_lines
from tfmodel.serve.proxy import Proxy
from tfmodel.serve.server import Server
from tfmodel.serve.settings import ServeSettings, serve_settings

__all__ = [
    "Client",
    "FeedbackSettings",
    "Prediction",
    "Proxy",
    "ServeSettings",
    "Server",
    "ServingError",
    "Stored",
    "answer_file",
    "answer_lines",
    "serve_settings",
]
