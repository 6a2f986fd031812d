"""`tfmodel serve`: its arguments, and the server or the proxy that they describe."""

from __future__ import annotations

import argparse
import contextlib

from tfmodel.config import ConfigError
from tfmodel.export.quiet import quiet
from tfmodel.serve.feedback.settings import feedback_of
from tfmodel.serve.proxy import Proxy
from tfmodel.serve.server import Server, labels_of, policy_of
from tfmodel.serve.settings import serve_settings
from tfmodel.serve.tensorflow_core import import_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `tfmodel serve` takes."""
    parser.add_argument(
        "base", metavar="SAVEDMODEL_BASE", nargs="?", help="folder of versions 1, 2, …"
    )
    parser.add_argument(
        "--models-config", metavar="FILE", help="models.config of TF Serving, in place of a folder"
    )
    parser.add_argument("--name", default="model", help="what clients call the model (model)")
    parser.add_argument("--host", help="address to listen at (127.0.0.1)")
    parser.add_argument("--rest-port", type=int, metavar="PORT", help="of REST (8501)")
    parser.add_argument("--grpc-port", type=int, metavar="PORT", help="of gRPC (8500)")
    parser.add_argument(
        "--versions", metavar="WHICH", default="newest", help="newest (default), all, or 3,5"
    )
    parser.add_argument(
        "--label", metavar="NAME=VERSION", action="append", default=[], help="such as stable=3"
    )
    parser.add_argument("--token-file", metavar="FILE", help="a token that clients must send")
    parser.add_argument("--tls-certificate", metavar="FILE", help="certificate chain, PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, PEM")
    parser.add_argument("--target", metavar="2.x", help="TF Serving a version must fit (2.12)")
    parser.add_argument("--poll-seconds", type=float, help="between looks at the folder (1)")
    parser.add_argument("--max-batch-size", type=int, help="rows computed at once (32)")
    parser.add_argument("--batch-timeout-ms", type=float, help="a batch waits to be full (0)")
    parser.add_argument("--batch-threads", type=int, help="batches at once (the cores)")
    parser.add_argument("--max-queue", type=int, help="rows that wait; more get 503 (4096)")
    parser.add_argument("--timeout-seconds", type=float, help="for an answer (30)")
    behind = parser.add_argument_group("in front of a TF Serving")
    behind.add_argument("--upstream", metavar="HOST:PORT", help="its REST: pass on and record")
    behind.add_argument("--upstream-grpc", metavar="HOST:PORT", help="its gRPC (none)")
    kept = parser.add_argument_group("feedback")
    kept.add_argument(
        "--feedback", metavar="DATABASE", help="record requests, take corrections: sqlite:///F.db"
    )
    kept.add_argument("--feedback-sample", type=float, metavar="SHARE", help="of requests (1.0)")
    kept.add_argument(
        "--feedback-privacy", metavar="KINDS", help="replaced before storing: all, none, email,…"
    )
    kept.add_argument("--feedback-regions", metavar="US,GB,…", help="whose numbers (US,GB,CN)")
    kept.add_argument("--feedback-days", metavar="N", help="kept so long, or none (90)")
    kept.add_argument("--feedback-rows", metavar="N", help="uncorrected rows kept (1000000)")
    kept.add_argument(
        "--feedback-mirror", type=float, metavar="SHARE", help="to stable, asked of canary too (0)"
    )
    kept.add_argument("--feedback-queue", type=int, metavar="N", help="requests that wait (1000)")


def run_command(options: argparse.Namespace) -> None:
    """Serve until the process is told to stop.

    Args:
        options: as parsed.

    Raises:
        ConfigError: a mistake of the caller's.
        RuntimeError: no version can be served.
    """
    names = ("host", "rest_port", "grpc_port", "token_file", "tls_certificate", "tls_key")
    limits = ("max_batch_size", "batch_timeout_ms", "batch_threads", "max_queue", "timeout_seconds")
    given = {name: getattr(options, name) for name in (*names, *limits, "target", "poll_seconds")}
    parts = ("privacy", "regions", "sample", "days", "rows", "queue", "mirror")
    given["feedback"] = feedback_of(
        options.feedback, **{name: getattr(options, f"feedback_{name}") for name in parts}
    )
    settings = serve_settings(**given)
    policy = policy_of(options.versions)
    labels = labels_of(options.label)
    if options.upstream is not None:
        known = {options.name: options.base} if options.base else None
        behind = {"upstream_grpc": options.upstream_grpc, "models": known}
        Proxy(options.upstream, **behind, settings=settings).run()
        return
    if options.upstream_grpc is not None:
        raise ConfigError("Expected --upstream beside --upstream-grpc. Received: no --upstream.")
    if options.models_config and (labels or options.versions != "newest"):
        raise ConfigError(
            "Expected versions and labels in the file. Received: --models-config beside --versions "
            "or --label."
        )
    with contextlib.nullcontext() if options.verbose else quiet():  # without its greetings
        import_tensorflow()
    models = None if options.base is None else {options.name: options.base}
    file = options.models_config
    Server(models, policy=policy, labels=labels, config_file=file, settings=settings).run()
