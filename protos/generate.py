"""Writes the Python stubs of the contract: `python protos/generate.py [OUT_DIR]`.

OUT_DIR is the repository root unless given; the stubs land in OUT_DIR/penstock/v1 and replace those that
stand there. The generators are pinned exactly in pyproject.toml, so the same protos give the same bytes
on every machine; a test and `make check` compare them with what is committed.
"""

import shutil
import sys
import sysconfig
from importlib.resources import as_file, files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
PACKAGE = Path("penstock/v1")


def main(out_dir: Path) -> None:
    sources = sorted((PROTOS / PACKAGE).glob("*.proto"))
    services = [source for source in sources if source.name.endswith("_service.proto")]
    if not sources:
        raise SystemExit(f"no .proto files in {PROTOS / PACKAGE}")

    _remove_stubs(out_dir / PACKAGE)
    _protoc(sources, f"--python_out={out_dir}", f"--mypy_out=quiet:{out_dir}", _plugin("mypy"))
    if services:
        # Without sync_only or async_only, one stub types both grpc and grpc.aio. Servicer methods are
        # concrete, as in the generated code: an RPC that is not overridden answers UNIMPLEMENTED.
        grpc_options = "quiet,generate_concrete_servicer_stubs"
        _protoc(
            services,
            f"--grpc_python_out={out_dir}",
            f"--mypy_grpc_out={grpc_options}:{out_dir}",
            _plugin("mypy_grpc"),
        )


def _remove_stubs(package: Path) -> None:
    """A stub whose proto is gone must not survive it."""
    package.mkdir(parents=True, exist_ok=True)
    for stub in package.glob("*_pb2*.py*"):
        stub.unlink()


def _protoc(sources: list[Path], *options: str) -> None:
    with as_file(files("grpc_tools") / "_proto") as well_known:
        arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}", *options, *map(str, sources)]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed")


def _plugin(name: str) -> str:
    """The plugin beside this interpreter, whether or not its virtual environment is activated."""
    program = f"protoc-gen-{name}"
    path = shutil.which(program, path=sysconfig.get_path("scripts")) or shutil.which(program)
    if path is None:
        raise SystemExit(f"{program} is not installed: use .venv/bin/python, or `make proto`")
    return f"--plugin={program}={path}"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PROTOS.parent)
