"""TF Serving's config files: text protocol buffers, read and written by their definitions.

`ModelServerConfig` is the package's own, of tensorflow-serving-api. That has no
`BatchingParameters` and no `MonitoringConfig`, so their definitions stand here: names and types of
the fields are what a text protocol buffer goes by.

Source: `servables/tensorflow/session_bundle_config.proto` and `config/monitoring_config.proto` of
TF Serving; of the first, the options for priorities and padding policies are left out.
"""

from __future__ import annotations

import functools
from typing import Any

from tfmodel.config import ConfigError

_INT, _STRING, _BOOL = "Int64Value", "StringValue", "BoolValue"
_BATCHING = {
    "max_batch_size": _INT,
    "batch_timeout_micros": _INT,
    "max_enqueued_batches": _INT,
    "num_batch_threads": _INT,
    "thread_pool_name": _STRING,
    "allowed_batch_sizes": "repeated int64",
    "pad_variable_length_inputs": "bool",
    "enable_large_batch_splitting": _BOOL,
    "max_execution_batch_size": _INT,
}
_MESSAGES = {
    "BatchingParameters": _BATCHING,
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}
THREAD_FIELDS = ("num_batch_threads", "thread_pool_name")
"""Those of `BatchingParameters` that are read of the server's file; a model's file has the rest."""


def new(name: str) -> Any:
    """An empty message: `ModelServerConfig`, `BatchingParameters` or `MonitoringConfig`."""
    if name == "ModelServerConfig":
        from tensorflow_serving.config import model_server_config_pb2

        return model_server_config_pb2.ModelServerConfig()
    return _classes()[name]()


def written(message: Any, *comments: str) -> str:
    """A message as text, after comments of a line each."""
    from google.protobuf import text_format

    lines = [f"# {comment}".rstrip() + "\n" for comment in comments]
    return "".join(lines) + text_format.MessageToString(message, as_utf8=True)


def read(name: str, text: str, *, where: str) -> Any:
    """Read a text protocol buffer.

    Args:
        name: as of `new`.
        text: the file's content.
        where: what messages call the file.

    Raises:
        ConfigError: it has fields that the message has not, or is no such text.
    """
    from google.protobuf import text_format

    message = new(name)
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConfigError(
            f"{where}: expected a {name} of TF Serving, as text. Received: {error}. Make the kit "
            "again, or mend the file."
        ) from None
    return message


@functools.cache
def _classes() -> dict[str, Any]:
    from google.protobuf import (
        descriptor_pb2,
        descriptor_pool,
        message_factory,
        wrappers_pb2,
    )

    field = descriptor_pb2.FieldDescriptorProto
    plain = {"int64": field.TYPE_INT64, "bool": field.TYPE_BOOL, "string": field.TYPE_STRING}
    # A pool of its own: another library may bring the same names into the common one.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="tfmodel/serving_configs.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (own, kind) in enumerate(fields.items(), 1):
            repeated, kind = kind.startswith("repeated "), kind.removeprefix("repeated ")
            added = message.field.add(
                name=own,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            )
            if kind in plain:
                added.type = plain[kind]
            else:
                package = "google.protobuf" if kind.endswith("Value") else file.package
                added.type, added.type_name = field.TYPE_MESSAGE, f".{package}.{kind}"
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
        for name in _MESSAGES
    }
