"""deploy/Dockerfile, as far as that is told without a container engine."""

import re

from conftest import DEPLOY, run, tool


def test_hadolint_finds_no_fault_in_the_dockerfile():
    run(tool("hadolint"), DEPLOY / "Dockerfile")


def test_images_of_others_are_pinned_by_their_digest():
    images = re.findall(r"^FROM (\S+:\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) == 1
    for image in images:
        assert re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
