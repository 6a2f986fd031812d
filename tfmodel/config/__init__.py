"""YAML and `key=value` overrides into any pydantic model, with errors that name the key.

Scalars follow YAML 1.2, not the 1.1 that PyYAML reads: `1e-4` is a number, only `true` and
`false` are booleans (`on`, `off`, `yes`, `no` are text, which a boolean field still
understands), `007` and `2024-01-01` are text. Where a field wants text it gets the scalar as
it was written, so that a label column called `1.10` stays `1.10`.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from tfmodel.annotations import is_read_as_empty, no_other_type
from tfmodel.config.wording import shown, text_where_text_is_wanted, word_problems


class ConfigError(ValueError):
    """A mistake of the caller's: a config, an argument, an input file, an unwritable folder.

    The message says what was expected, what was received and what to do; the command line
    prints it alone, with exit code 2 and no traceback.
    """


@contextlib.contextmanager
def mistakes_of(place: str) -> Iterator[None]:
    """Have a `ConfigError` say of which part of a config it is.

    Args:
        place: such as `tasks.stars`.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


class Settings(pydantic.BaseModel):
    """The base of every stage's config: frozen; unknown keys, infinity and NaN are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_as_meant(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        for key, field in cls.model_fields.items():
            if key in values:
                empty = values[key] is None and is_read_as_empty(field)
                values[key] = {} if empty else no_other_type(values[key], field.annotation)
        return values


SettingsType = TypeVar("SettingsType", bound=pydantic.BaseModel)


def load_config(
    source: str | Path | Mapping,
    schema: type[SettingsType],
    *,
    overrides: Sequence[str] = (),
) -> SettingsType:
    """Read a config and check every key, type and range of it.

    Args:
        source: the path of a YAML file, or the values themselves as a mapping.
        schema: the pydantic model of the whole config.
        overrides: `key=value` strings, later ones win: keys dotted (`train.epochs=3`), values
            YAML (`export.tflite=[int8]`). A value that YAML gives another meaning at its first
            character (`,` `|` `*` ...) is taken as the text it is.

    Returns:
        The checked settings, defaults filled in.

    Raises:
        ConfigError: the file or an override cannot be read, or a key or value is wrong. All
            that is wrong is named at once, one mistake per line.
    """
    if isinstance(source, Mapping):
        where, values, written = "config", _with_text_keys(source), {}
    else:
        where = str(source)
        values, written = _read_yaml_file(Path(source), schema)
    origins: dict[tuple, str] = {}
    for override in overrides:
        keys, value, text = _read_override(override)
        made = _put(values, keys, value, override)
        _put(written, keys, text, override)
        origins[made] = f"override {override}"
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False)
    as_text = text_where_text_is_wanted(values, written, problems)
    try:
        return schema.model_validate(as_text)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False)
    lines = word_problems(problems, values, schema, where=where, origins=origins)
    raise ConfigError("\n".join(lines))


def to_yaml(settings: pydantic.BaseModel) -> str:
    """Write settings as YAML, defaults included; `load_config` reads back equal settings."""
    values = settings.model_dump(mode="json")
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


# --- YAML ---------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's scalars; keys are always text."""

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a word, not a list or mapping", key.start_mark
                )
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


class _TextLoader(_Loader):
    """Every plain scalar as the text that was written."""

    yaml_implicit_resolvers: dict = {}


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else than text."""


_NUMBER = r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", rf"{_NUMBER}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
)
for _name, _pattern, _first in _SCALARS:
    for _user in (_Loader, _Dumper):
        _user.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first)
        )
for _user in (_Loader, _TextLoader):
    _user.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])


def _read_yaml_file(path: Path, schema: type[pydantic.BaseModel]) -> tuple[dict, dict]:
    """The values of a YAML file, and beside them each scalar as it was written."""
    keys = ", ".join(schema.model_fields)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: expected a YAML config. Received: no file of this name in "
            f"{path.absolute().parent}. Check the name and the current folder"
            f"{_near_files(path)}."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a YAML config that can be read. Received: {error.strerror}. "
            "Name a readable file."
        ) from None
    text = _decode(content, path)
    values, written = _parse_yaml(text, str(path)), _parse_yaml(text, str(path), _TextLoader)
    if values is None:
        raise ConfigError(
            f"{path}: expected keys such as {keys}. Received: an empty file. "
            "Write a config, or let `tfmodel init FILE` write one for your data."
        )
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected a mapping with keys such as {keys}. Received: {shown(values)}. "
            "Write one `key: value` a line."
        )
    return values, written


def _near_files(path: Path) -> str:
    names = [beside.name for beside in path.absolute().parent.glob("*.y*ml")]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f", or take {path.with_name(near[0])}" if near else ""


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        likely = "UTF-16" if wide else "Latin-1 or Windows-1252"
        raise ConfigError(
            f"{path}:{line}: expected UTF-8 text. Received: the byte 0x{content[error.start]:02x} "
            f"at position {error.start}; the file is likely {likely}. Save it as UTF-8."
        ) from None


def _parse_yaml(text: str, where: str, loader_class: type[_Loader] = _Loader) -> Any:
    try:
        loader = loader_class(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_duplicate_keys(node, where)
        return loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{ord(text[error.position]):04X}"
        raise ConfigError(
            f"{where}:{line}: expected text without control characters. Received: {problem}. "
            'Remove it, or write it as an escape in double quotes ("\\t").'
        ) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_word_yaml_error(error, text, where)) from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{where}: expected YAML. Received: {str(error)[:100]}. Write it simpler."
        ) from None


def _word_yaml_error(error: yaml.MarkedYAMLError, text: str, where: str) -> str:
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    lines = text.splitlines()
    # A mark past the last line means that something opened above was not closed.
    received = lines[number - 1].strip() if number <= len(lines) else "the end of the file"
    problem = " ".join(p for p in (error.context, error.problem) if p)
    if "\\t" in problem:
        fix = "Indent with spaces instead of tabs."
    elif "mapping values are not allowed" in problem:
        fix = "Put text that holds ': ' in quotes, or check the indentation."
    elif "tag" in problem:
        fix = "Write plain values; tags such as !!python are not read."
    else:
        fix = "Check the indentation, quotes and brackets on this line and the one before."
    return f"{where}:{number}: expected YAML; {problem}. Received: {received[:80]}. {fix}"


def _refuse_duplicate_keys(root: yaml.Node, where: str) -> None:
    """PyYAML keeps the last of two equal keys without a word; a config must not."""
    waiting: list[tuple[yaml.Node, str]] = [(root, "")]
    seen = set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{path}{i}.") for i, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in first:
                    raise ConfigError(
                        f"{where}:{line}: expected each key once. Received: {path}{name} a second "
                        f"time, first on line {first[name]}. Keep one of the two."
                    )
                first[name] = line
                waiting.append((value, f"{path}{name}."))


# --- overrides ----------------------------------------------------------------------------


def _read_override(override: str) -> tuple[tuple[str, ...], Any, Any]:
    """Split `a.b=value` into its keys, the value, and the value as it was written."""
    path, sign, text = override.partition("=")
    keys = tuple(path.strip().split("."))
    if not sign or not all(keys):
        raise ConfigError(
            f"override {override}: expected KEY=VALUE. Received: {override!r}. "
            "Write for example train.epochs=3."
        )
    where = f"override {override}"
    if text.lstrip()[:1] in tuple("[{\"'"):
        return keys, _parse_yaml(text, where), _parse_yaml(text, where, _TextLoader)
    # A shell has already taken the quotes off `delimiter='|'`: what is left must not be read
    # as YAML's block, alias, tag or comment.
    if text and (not text.strip() or text.lstrip()[0] in ",|>#&*!%@`"):
        return keys, text, text
    try:
        return keys, _parse_yaml(text, where), text
    except ConfigError:
        return keys, text, text


def _put(tree: dict, keys: tuple[str, ...], value: Any, override: str) -> tuple[str, ...]:
    """Set a value under its keys; returns the keys of the topmost thing that was not there."""
    made = None
    for depth, key in enumerate(keys[:-1], start=1):
        if tree.get(key) in (None, ""):
            tree[key] = {}
            made = made or keys[:depth]
        if not isinstance(tree[key], dict):
            parent = ".".join(keys[:depth])
            raise ConfigError(
                f"override {override}: expected {parent} to be a mapping of keys. Received: "
                f"{shown(tree[key])}. Set the whole of it: {parent}=VALUE."
            )
        tree = tree[key]
    tree[keys[-1]] = value
    return made or keys


def _with_text_keys(value: Any) -> Any:
    """A deep copy in which keys are text, as they are when read from YAML."""
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text_keys(inner) for inner in value]
    return value
