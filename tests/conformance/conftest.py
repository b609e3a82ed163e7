import pathlib
import subprocess
import sys
import tempfile

import grpc
import openai
import pytest
from daemon import ROOT, Daemon


def pytest_addoption(parser):
    parser.addoption("--openai-document", help="OpenAI's document; all answers are held to it")


def pytest_configure(config):
    path = config.getoption("--openai-document")
    if path:
        from openai_document import OpenAiDocument

        config.openai_document = OpenAiDocument(path)
        config.openai_document.watch()


def pytest_terminal_summary(terminalreporter, config):
    document = getattr(config, "openai_document", None)
    if document:
        terminalreporter.write_line(
            f"held to OpenAI's document: {document.bodies} bodies, {document.events} events of "
            f"streams, {document.errors} errors")


@pytest.fixture(scope="session")
def daemon():
    with Daemon() as running:
        yield running


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="holdfast-state-") as path:
        yield pathlib.Path(path)


@pytest.fixture(scope="module")
def stateful(folder):
    with Daemon("--state", str(folder / "state.sqlite")) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def client(daemon):
    return openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """The Python modules generated from proto/, as a user would make them."""
    out = tmp_path_factory.mktemp("stubs")
    protos = sorted(str(p) for p in (ROOT / "proto").rglob("*.proto"))
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}",
                    f"--python_out={out}", f"--grpc_python_out={out}", *protos], check=True)
    for folder in (out / "holdfast", out / "holdfast/v1"):
        (pathlib.Path(folder) / "__init__.py").touch()
    sys.path.insert(0, str(out))
    from holdfast.v1 import generate_pb2, generate_pb2_grpc

    return generate_pb2, generate_pb2_grpc


@pytest.fixture(scope="session")
def channel(daemon):
    with grpc.insecure_channel(f"127.0.0.1:{daemon.grpc}") as open_channel:
        yield open_channel
