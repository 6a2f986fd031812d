"""The layout is the flow: a package imports only packages above it."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "tfmodel"

# The order of the design: what stands lower may import what stands higher, never the reverse.
ORDER = [
    "annotations",
    "config",
    "schema",
    "run_folder",
    "sources",
    "data",
    "tokens",
    "model",
    "evaluate",
    "tasks",
    "train",
    "export",
    "serve",
    "report",
    "protection",
    "stages",
    "kinds",
    "pipeline",
    "starter",
    "doctor",
    "cli",
]
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: pathlib.Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "tfmodel":
            names = [f"tfmodel.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            assert not getattr(node, "level", 0), f"{path}: relative import"
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("tfmodel.")}
    return rooms & {*ORDER}


def test_every_room_has_its_place():
    rooms = {room_of(path) for path in modules()} - {"__init__"}
    assert rooms == set(ORDER)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path):
    room = room_of(path)
    if room == "__init__":
        return
    below = {name for name in imported_rooms(path) if ORDER.index(name) > ORDER.index(room)}
    assert not below, f"{path} imports {below}, which stand below {room}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda p: p.parent.name)
def test_no_module_takes_the_place_of_what_its_package_imports(path):
    # Importing a module of a package sets the package's attribute of that name.
    modules_beside = {module.stem for module in path.parent.glob("*.py")}
    inside = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    taken = {
        name.asname or name.name
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom) and not f"{node.module}.".startswith(f"{inside}.")
        for name in node.names
    }
    assert not taken & modules_beside


def test_no_room_for_what_has_no_name():
    names = {part for path in modules() for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & FORBIDDEN_NAMES


def test_files_stay_readable():
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in modules()
        if (lines := len(path.read_text("utf-8").splitlines())) > 550
    }
    assert not long


@pytest.mark.parametrize("name", ["tfmodel", "tfmodel.cli", "tfmodel.pipeline"])
def test_heavy_libraries_wait_until_they_are_used(name):
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'tensorflow_datasets', 'torch'}"
    code = f"import sys, {name}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_run_function_is_not_hidden_by_a_module():
    import tfmodel

    __import__("tfmodel.data")
    assert callable(tfmodel.run)
