"""What this project adds to TF Serving's API, by name."""

STABLE, CANARY = "stable", "canary"
"""The labels of a rollout: on the version in service, and on the one on trial."""

FEEDBACK_PATH = "/v1/feedback"
"""Where corrections go over REST."""
FEEDBACK_SERVICE = "tfmodel.FeedbackService"
FEEDBACK_METHOD = f"/{FEEDBACK_SERVICE}/Correct"
"""Where they go over gRPC: the same JSON, as bytes, both ways."""
REQUEST_ID = "tfmodel-request-id"
"""The header of an answer, over gRPC trailing metadata, with the id of a request that is recorded.
"""
