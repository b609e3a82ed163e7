"""deploy/kubernetes, as kubectl renders it, held to the published schemas."""

import pathlib

import jsonschema
import kubernetes_validate
import pytest
import yaml
from conftest import DEPLOY, run
from daemon import Daemon

KUBERNETES = DEPLOY / "kubernetes"
VERSION = "1.35"  # also kubectl's, in tools.txt


@pytest.fixture(scope="module")
def resources(kubectl):
    """Of the daemons, and of these behind a gateway: {(kind, name): resource} of the latter."""
    plain = list(yaml.safe_load_all(run(kubectl, "kustomize", KUBERNETES / "daemons")))
    gateway = list(yaml.safe_load_all(run(kubectl, "kustomize", KUBERNETES / "inference-gateway")))
    assert all(resource in gateway for resource in plain)
    return {(r["kind"], r["metadata"]["name"]): r for r in gateway}


def is_extension(resource):
    return resource["kind"] in ("InferencePool", "HTTPRoute")


def test_every_resource_is_as_kubernetes_wants_it(resources):
    checked = 0
    for resource in resources.values():
        if not is_extension(resource):
            kubernetes_validate.validate(resource, VERSION, strict=True)
            checked += 1
    assert checked == 8, sorted(resources)


def closed(schema):
    """As an API server has it, which takes no field that the schema does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) \
            and schema["properties"]:
        schema.setdefault("additionalProperties", False)
    return schema


def test_extensions_are_as_their_definitions_want_them(resources, request):
    folder = request.config.getoption("--crds")
    if folder is None:
        pytest.skip("no --crds FOLDER: the definitions are not in a package, and not copied here")
    definitions = {d["spec"]["names"]["kind"]: d["spec"] for path in pathlib.Path(folder).glob("*.yaml")
                   for d in yaml.safe_load_all(path.read_text())}
    for resource in filter(is_extension, resources.values()):
        group, version = resource["apiVersion"].split("/")
        spec = definitions[resource["kind"]]
        schema, = [v["schema"]["openAPIV3Schema"] for v in spec["versions"] if v["name"] == version]
        assert spec["group"] == group
        jsonschema.validate(resource, closed(schema))


def test_pods_are_confined_and_keep_to_a_restricted_namespace(resources):
    assert resources["Namespace", "holdfast"]["metadata"]["labels"][
        "pod-security.kubernetes.io/enforce"] == "restricted"
    pod = resources["Deployment", "holdfast"]["spec"]["template"]["spec"]
    container, = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False,
                                            "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}


def test_whatever_selects_pods_finds_the_daemons(resources):
    labels = resources["Deployment", "holdfast"]["spec"]["template"]["metadata"]["labels"]
    for (kind, _), resource in resources.items():
        spec = resource.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector", {}))
        selector = selector.get("matchLabels", selector)
        assert all(labels.get(key) == value for key, value in selector.items()), (kind, selector)


def test_the_autoscalers_metrics_are_the_daemons(resources):
    rules = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    series = {rule.get("name", {}).get("as", rule["seriesQuery"].split("{")[0]):
              rule["seriesQuery"].split("{")[0] for rule in rules}
    wanted = {metric["pods"]["metric"]["name"] for metric in
              resources["HorizontalPodAutoscaler", "holdfast"]["spec"]["metrics"]}
    assert set(series) == wanted
    with Daemon("--threads", "1") as daemon:
        for name in series.values():
            daemon.metric(name)
        daemon.metric("holdfast_kvstore_blocks", state="held")
        for name in ("vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                     "vllm:cache_config_info"):  # the endpoint picker's
            daemon.metric(name)
