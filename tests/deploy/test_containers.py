"""deploy/Dockerfile and deploy/compose.yaml, as far as that is told without a container engine."""

import json
import pathlib
import re

from conftest import DEPLOY, run, tool


def compose():
    return json.loads(run(tool("docker-compose"), "-f", DEPLOY / "compose.yaml", "config",
                          "--format", "json"))["services"]


def test_hadolint_finds_no_fault_in_the_dockerfile():
    run(tool("hadolint"), DEPLOY / "Dockerfile")


def test_images_of_others_are_pinned_by_their_digest():
    images = re.findall(r"^FROM (\S+:\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    images += [service["image"] for service in compose().values() if "build" not in service]
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image


def test_what_compose_mounts_is_there():
    for name, service in compose().items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert pathlib.Path(volume["source"]).exists(), (name, volume["source"])
                assert volume["read_only"], (name, volume["source"])


def test_compose_publishes_on_loopback_and_confines_all():
    for name, service in compose().items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
