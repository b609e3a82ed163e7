#!/usr/bin/env python3
"""Writes deploy/grafana/dashboards/*.json from the tables below: one line a query instead of some
forty of JSON.

    python3 scripts/dashboards.py

Queries are written without what a page's choices narrow them to, which is put into each selector, and
with [r] for the window of rates. tests/conformance/test_dashboards.py runs each on a daemon under load.
"""

import json
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "deploy/grafana/dashboards"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT = 8, 8  # of a panel, three in a row

# Metrics with the label `tenant`; the page's choice of tenants narrows them too.
OF_TENANTS = re.compile(
    "instance_tenant:|holdfast_server_(time|inter|e2e|prompt|cached|completion|requests_total|texts)|"
    "holdfast_kvstore_hit_tokens|holdfast_scheduler_(prompt|cached|completion|compute|kv_byte|queue|"
    "shed|running_requests|waiting_requests|pinned_bytes|memoryfulness|follow_up)")
METRIC = re.compile(r"\b((?:instance|instance_tenant):\w+:\w+|holdfast_\w+|process_start_time_seconds)(\{)?")


# ---- Panels ----------------------------------------------------------------------------------------


def panel(title, unit, about, kind="timeseries", width=WIDTH, *, of):
    """`of`: legend to query."""
    return {"title": title, "unit": unit, "about": about, "kind": kind, "width": width, "of": of}


def quantiles(histogram, by="", shares=(0.5, 0.95, 0.99)):
    """`by` names a label whose values are told apart."""
    legend = f" {{{{{by}}}}}" if by else ""
    labels = f"le, {by}" if by else "le"
    return {f"p{share * 100:g}{legend}": f"histogram_quantile({share}, sum by ({labels}) "
            f"(rate({histogram}_bucket[r])))" for share in shares}


def rates(counter, by, more=""):
    return {" ".join(f"{{{{{label}}}}}" for label in by.split(", ")):
            f"sum by ({by}) (rate({counter}[r])){more}"}


OVERVIEW = ("overview", "Overview", ["instance"], {
    "Is it healthy?": [
        panel("State", "short",
              "What /health/ready tells. Draining and leaving are a restart that goes as it "
              "should; failing: step after step fails, see the log.",
              "state-timeline", of={
                  "{{instance}} {{state}}": "holdfast_server_readiness == 1"}),
        panel("Alerts that fire", "short",
              "Of deploy/prometheus/rules; Prometheus' page Alerts says which, and what to do.",
              "stat", 4, of={
                  "alerts":
                      'count(ALERTS{alertname=~"Holdfast.*",alertstate="firing"}) or vector(0)'}),
        panel("Requests that failed", "percentunit",
              "Of those that ended: by our fault, for unavailability or by the time limit.",
              "stat", 4, of={
                  "{{instance}}": "instance:holdfast_requests:error_ratio5m"}),
        panel("Up for", "s",
              "Since the process began.",
              "stat", 4, of={
                  "{{instance}} {{version}}":
                      "(time() - process_start_time_seconds) * on (instance) group_left (version) "
                      "holdfast_build_info"}),
        panel("Settings read again", "short",
              "In an hour; refused ones had faults, which the log names.",
              "stat", 4, of={
                  "{{result}}": "sum by (result) (increase(holdfast_server_reloads_total[1h]))"}),
    ],
    "How fast is it?": [
        panel("Time to first token", "s",
              "From the arrival of a request, with its wait in the queue.",
              of=quantiles("holdfast_server_time_to_first_token_seconds")),
        panel("Time between tokens", "s",
              "Of one choice; about the length of a step.",
              of=quantiles("holdfast_server_inter_token_latency_seconds")),
        panel("Whole requests", "s",
              "From arrival to the last token, of those that came to their end.",
              of=quantiles("holdfast_server_e2e_latency_seconds")),
        panel("Tokens a second", "short",
              "Computed prompt tokens, prompt tokens found in the cache, and tokens delivered.",
              of={
                  "prompt, computed":
                      "sum(rate(holdfast_scheduler_prompt_tokens_total[r])) - "
                      "sum(rate(holdfast_scheduler_cached_tokens_total[r]))",
                  "prompt, cached": "sum(rate(holdfast_scheduler_cached_tokens_total[r]))",
                  "completion": "sum(rate(holdfast_scheduler_completion_tokens_total[r]))"}),
        panel("Requests by how they ended", "reqps",
              "Generation over HTTP and gRPC.",
              of=rates("holdfast_server_requests_total", "outcome")),
        panel("Requests under way", "short",
              "Accepted and not yet over, waiting ones among them.",
              of={
                  "{{instance}}": "sum by (instance) (holdfast_server_requests_running)"}),
    ],
    "Why is it slow, why are requests refused?": [
        panel("Sequences", "short",
              "Many that wait while few run: see why they wait.",
              of={
                  "running": "sum(holdfast_scheduler_running_sequences)",
                  "waiting": "sum(holdfast_scheduler_waiting_sequences)"}),
        panel("Why they wait", "short",
              "places: scheduler.running_max; blocks: the KV cache; tenant_places: the tenant's "
              "running_max; turn: others go first; step_rows, prefill: the step is full.",
              of={
                  "{{reason}}": "sum by (reason) (holdfast_scheduler_waiting_by_reason)"}),
        panel("Wait in the queue", "s",
              "From submitted to first admitted.",
              of=quantiles("holdfast_scheduler_queue_seconds")),
        panel("Refused (429)", "reqps",
              "By the bound that had no room; request_rate, token_rate and tenant_queue are the "
              "tenant's own, the others everybody's.",
              of=rates("holdfast_scheduler_shed_total", "reason")),
        panel("Refused before the queue", "reqps",
              "Texts waiting for the tokenizer, connections beyond server.http_connections_max.",
              of={
                  "texts": "sum(rate(holdfast_server_texts_refused_total[r]))",
                  "connections": "sum(rate(holdfast_http_connections_refused_total[r]))"}),
        panel("KV held", "percentunit",
              "Share of the device's blocks that running requests and pins hold; at 100 % "
              "requests wait for blocks.",
              of={
                  "{{instance}}": "instance:holdfast_kv_blocks:held_ratio"}),
    ],
    "HTTP and work in the background": [
        panel("Answers by code", "reqps",
              "499: the client left first.",
              of=rates("holdfast_http_requests_total", "code", " > 0")),
        panel("Answers by route", "reqps",
              "The ten most asked for.",
              of={
                  "{{route}}": "topk(10, sum by (route) (rate(holdfast_http_requests_total[r])))"}),
        panel("Connections", "short",
              "Open, requests in flight, and streams that outlive their connection.",
              of={
                  "connections": "sum(holdfast_http_connections)",
                  "in flight": "sum(holdfast_http_requests_in_flight)",
                  "kept streams": "sum(holdfast_http_kept_streams)"}),
        panel("Kept streams that ended", "reqps",
              "complete: read to the end; time: nobody came back in time; bytes: too large.",
              of=rates("holdfast_http_kept_streams_ended_total", "reason")),
        panel("Lines of batches", "reqps",
              "Only with state.path.",
              of=rates("holdfast_server_batch_lines_total", "outcome")),
        panel("Batches", "short",
              "Only with state.path.",
              of={
                  "unfinished batches": "sum(holdfast_server_batches_unfinished)",
                  "lines that run": "sum(holdfast_server_batch_lines_running)"}),
    ],
})

TENANTS = ("tenants", "Tenants", ["instance", "tenant"], {
    "Who uses what?": [
        panel("Part of the machine", "percentunit",
              "Of the time of all steps, shared out by rows. Beside others who wait, parts go by "
              "`weight`.",
              of={
                  "{{tenant}}": "avg by (tenant) (instance_tenant:holdfast_compute_seconds:share5m)"}),
        panel("Tokens delivered a second", "short", "",
              of=rates("holdfast_scheduler_completion_tokens_total", "tenant")),
        panel("Prompt tokens computed a second", "short",
              "Without those that were cached.",
              of={
                  "{{tenant}}":
                      "sum by (tenant) (rate(holdfast_scheduler_prompt_tokens_total[r])) - sum by "
                      "(tenant) (rate(holdfast_scheduler_cached_tokens_total[r]))"}),
        panel("KV on the device", "bytes",
              "What running requests and pins hold, on average.",
              of=rates("holdfast_scheduler_kv_byte_seconds_total", "tenant")),
        panel("KV kept between turns", "bytes",
              "Pinned on the device, up to the tenant's kv.pinned_max.",
              of={
                  "{{tenant}}": "sum by (tenant) (holdfast_scheduler_pinned_bytes)"}),
        panel("Prompt tokens found in the cache", "percentunit",
              "Of all prompt tokens.",
              of={
                  "{{tenant}}":
                      "sum by (tenant) (rate(holdfast_scheduler_cached_tokens_total[r])) / (sum "
                      "by (tenant) (rate(holdfast_scheduler_prompt_tokens_total[r])) > 0)"}),
    ],
    "How are they served?": [
        panel("Time to first token, p95", "s", "",
              of=quantiles("holdfast_server_time_to_first_token_seconds", "tenant", [0.95])),
        panel("Time between tokens, p95", "s", "",
              of=quantiles("holdfast_server_inter_token_latency_seconds", "tenant", [0.95])),
        panel("Wait in the queue, p95", "s", "",
              of=quantiles("holdfast_scheduler_queue_seconds", "tenant", [0.95])),
        panel("Requests that run", "short",
              "Up to the tenant's running_max.",
              of={
                  "{{tenant}}": "sum by (tenant) (holdfast_scheduler_running_requests)"}),
        panel("Requests that wait", "short",
              "Not yet run; up to the tenant's waiting_max.",
              of={
                  "{{tenant}}": "sum by (tenant) (holdfast_scheduler_waiting_requests)"}),
        panel("Requests by how they ended", "reqps",
              "invalid: the request had a fault; shed: see below.",
              of=rates("holdfast_server_requests_total", "tenant, outcome", " > 0")),
    ],
    "Who is refused, and by which bound?": [
        panel("Refused (429)", "reqps",
              "request_rate, token_rate, tenant_queue: the tenant's own bounds; queue, "
              "queue_share, queue_wait, capacity: everybody's.",
              width=16, of=rates("holdfast_scheduler_shed_total", "tenant, reason")),
        panel("Requests that failed", "percentunit",
              "Of those that ended: error, unavailable or timeout.",
              of={
                  "{{tenant}}":
                      "sum by (tenant) "
                      '(rate(holdfast_server_requests_total{outcome=~"error|unavailable|timeout"}[r])) / (sum by (tenant) (rate(holdfast_server_requests_total[r])) > 0)'}),
    ],
})

KV = ("kv", "KV cache and tiers", ["instance"], {
    "How full is it?": [
        panel("Blocks of the device", "short",
              "16 tokens each. held: by requests and pins; evictable: cached, and goes when room "
              "is needed.",
              of={
                  "{{state}}": "sum by (state) (holdfast_kvstore_blocks)"}),
        panel("Held", "percentunit",
              "Beyond it requests wait for blocks, and running ones are preempted.",
              of={
                  "{{instance}}": "instance:holdfast_kv_blocks:held_ratio"}),
        panel("Tiers below", "percentunit",
              "A full tier evicts; kv.host_bytes, kv.disk.bytes.",
              of={
                  "{{tier}}":
                      'sum by (tier) (holdfast_kvstore_tier_blocks{state="used"}) / (sum by '
                      "(tier) (holdfast_kvstore_tier_blocks) > 0)"}),
    ],
    "What is it worth?": [
        panel("Prompt tokens found", "percentunit",
              "Of all prompt tokens; 5 minutes.",
              of={
                  "{{instance}}": "instance:holdfast_prompt_tokens:cached_ratio5m"}),
        panel("Found tokens a second, by tier", "short",
              "Where their KV lay.",
              of=rates("holdfast_kvstore_hit_tokens_total", "tier")),
        panel("Blocks a second", "short",
              "hit: used again; published: computed and findable; duplicate: computed twice at "
              "the same time.",
              of={
                  name: f"sum(rate(holdfast_kvstore_{name}_blocks_total[r]))"
                  for name in ("hit", "published", "duplicate")}),
        panel("Time between two uses", "s",
              "Of a block that nobody held meanwhile. Longer than the time on the device: a tier "
              "below, or more memory, would find more.",
              of=quantiles("holdfast_kvstore_reuse_gap_seconds", shares=(0.5, 0.95))),
        panel("Time on the device", "s",
              "Of blocks that left it.",
              of=quantiles("holdfast_kvstore_residency_seconds", shares=(0.5, 0.95))),
        panel("Evicted blocks a second", "short",
              "By the tier that needed room; without copy: the tiers below are too slow, or there "
              "are none.",
              of={
                  **rates("holdfast_kvstore_evicted_blocks_total", "tier"),
                  "without copy": "sum(rate(holdfast_kvstore_dropped_without_copy_blocks_total[r]))"}),
    ],
    "Do the tiers keep up?": [
        panel("Moved bytes a second", "Bps",
              "offload: device to host; demote: to disk; restore: back; send: to the remote tier.",
              of=rates("holdfast_kvstore_moved_bytes_total", "kind")),
        panel("Blocks on their way", "short", "",
              of={
                  "{{instance}}": "sum by (instance) (holdfast_kvstore_moves_under_way)"}),
        panel("Faults a second", "short",
              "Failed moves, blocks that came back unproven (corrupt) or not at all (lost), "
              "requests that compute what did not come back. Nothing wrong is ever used.",
              of={
                  "failed {{kind}}":
                      'sum by (kind) (rate(holdfast_kvstore_moves_total{result="failed"}[r]))',
                  "corrupt": "sum(rate(holdfast_kvstore_corrupt_blocks_total[r]))",
                  "lost": "sum(rate(holdfast_kvstore_lost_blocks_total[r]))",
                  "restores cut": "sum(rate(holdfast_kvstore_restores_cut_total[r]))"}),
        panel("Not published", "short",
              "Blocks a second: index_full: more content than can be known; collision: other "
              "content had the key.",
              of={
                  "index full": "sum(rate(holdfast_kvstore_index_full_blocks_total[r]))",
                  "collision": "sum(rate(holdfast_kvstore_key_collisions_total[r]))"}),
    ],
    "The remote tier": [
        panel("Look-ups", "reqps",
              "What it has of a prompt; late: nobody waited any more.",
              of=rates("holdfast_kvstore_remote_lookups_total", "result")),
        panel("Fetched blocks a second", "short",
              "absent: gone since the look-up.",
              of=rates("holdfast_kvstore_remote_fetches_total", "result")),
        panel("Trouble", "short",
              "Failed and refused calls, blocks not sent, a second; 1 while the server is left "
              "alone.",
              of={
                  "calls {{result}}":
                      "sum by (result) (rate(holdfast_kvstore_remote_calls_total[r]))",
                  "not sent": "sum(rate(holdfast_kvstore_sends_skipped_blocks_total[r]))",
                  "left alone {{instance}}": "holdfast_kvstore_remote_breaker_open"}),
    ],
})

AGENTS = ("agents", "Agents and pins", ["instance", "tenant"], {
    "What is kept between turns?": [
        panel("Pins", "short",
              "asked: by the client (kv_hints, prompt_cache_retention); paused: while a tool "
              "runs; provisional: until it is known what was called; wanted: by those next in the "
              "queue.",
              of={
                  "{{state}}": "sum by (state) (holdfast_scheduler_pins)"}),
        panel("Pinned part of the device", "percentunit",
              "What pins may have is bounded by kv.pinned_max of each tenant.",
              of={
                  "{{instance}}":
                      "sum by (instance) (holdfast_kvstore_pinned_blocks) / sum by (instance) "
                      "(holdfast_kvstore_blocks)"}),
        panel("Pinned, by tenant", "bytes", "",
              of={
                  "{{tenant}}": "sum by (tenant) (holdfast_scheduler_pinned_bytes)"}),
    ],
    "Why do pins end, and were they worth it?": [
        panel("Pins that ended", "short",
              "A second. hit: the next turn found all; mismatch: it had rewritten its history; "
              "expired: it did not come in time; forced, displaced: room was needed; declined: "
              "not worth its room.",
              of=rates("holdfast_scheduler_pin_results_total", "result")),
        panel("Worth it", "percentunit",
              "Pins whose next turn found all, of those that ended.",
              of={
                  "hits":
                      'sum(rate(holdfast_scheduler_pin_results_total{result="hit"}[r])) / '
                      "(sum(rate(holdfast_scheduler_pin_results_total[r])) > 0)"}),
        panel("Kept in vain", "short",
              "Tokens a second that the next turn's prompt had others in place of: the client "
              "rewrites its history.",
              of={
                  "tokens": "sum(rate(holdfast_scheduler_pin_mismatch_tokens_total[r]))"}),
        panel("How long turns are kept", "s",
              "The time decided at a turn's end; 0: not at all.",
              of=quantiles("holdfast_scheduler_ttl_seconds", shares=(0.5, 0.95))),
        panel("What decided it", "short",
              "Decisions a second. tool, tenant: times seen before; cold: none yet; declared: the "
              "client's tool_hint.",
              of={
                  "{{source}}": "sum by (source) (rate(holdfast_scheduler_ttl_seconds_count[r]))"}),
        panel("Ends in the store", "short",
              "Pins a second, by what ended them.",
              of={
                  "{{end}}": "sum by (end) (rate(holdfast_kvstore_pins_ended_total[r]))"}),
    ],
    "How do the agents work?": [
        panel("Time between turns", "s",
              "While a tool runs; named: it is known which.",
              of=quantiles("holdfast_scheduler_tool_seconds", shares=(0.5, 0.95))),
        panel("Turns that came back", "short",
              "A second, by whether the tool is known.",
              of={
                  "{{tool}}": "sum by (tool) (rate(holdfast_scheduler_tool_seconds_count[r]))"}),
        panel("Whole programs", "s",
              "From the first turn to the end of the last; of those that said session_final, or "
              "came back no more.",
              of=quantiles("holdfast_scheduler_program_seconds", shares=(0.5, 0.95))),
        panel("Wait of later turns", "s",
              "Mean wait of turns that came back without a live pin: what a pin saves.",
              of={
                  "{{tenant}}": "max by (tenant) (holdfast_scheduler_follow_up_queue_seconds)"}),
        panel("Memoryfulness", "short",
              "-1 to 1: how well a program's progress tells what is left of it. None for the "
              "tenants counted as `other`.",
              of={
                  "{{tenant}}": "avg by (tenant) (holdfast_scheduler_memoryfulness)"}),
    ],
})

ENGINE = ("engine", "Engine", ["instance"], {
    "Is the machine busy?": [
        panel("Steps under way", "percentunit",
              "Time of steps in a second. Near 100 %: the machine is what limits.",
              of={
                  "{{instance}}":
                      "sum by (instance) (rate(holdfast_scheduler_compute_seconds_total[r]))"}),
        panel("Steps a second", "short", "",
              of={
                  "{{instance}}":
                      "sum by (instance) (rate(holdfast_scheduler_step_seconds_count[r]))"}),
        panel("Tokens computed a second", "short",
              "Rows of all steps: prompts, drawn tokens, drafts.",
              of={
                  "{{instance}}": "sum by (instance) (rate(holdfast_scheduler_step_rows_sum[r]))"}),
    ],
    "How long is a step, and what is in it?": [
        panel("Step time", "s",
              "From planned to committed; scheduler.step_time_max while tenants share.",
              of=quantiles("holdfast_scheduler_step_seconds")),
        panel("Rows of a step", "short",
              "Tokens computed in one; at most scheduler.step_tokens_max.",
              of=quantiles("holdfast_scheduler_step_rows")),
        panel("Time of a row", "s",
              "Mean: falls as steps are fuller.",
              of={
                  "{{instance}}":
                      "sum by (instance) (rate(holdfast_scheduler_step_seconds_sum[r])) / (sum by "
                      "(instance) (rate(holdfast_scheduler_step_rows_sum[r])) > 0)"}),
    ],
    "What is computed in vain?": [
        panel("Preemptions", "short",
              "A second: the KV cache is too small for what runs.",
              of={
                  "{{instance}}":
                      "sum by (instance) (rate(holdfast_scheduler_preemptions_total[r]))"}),
        panel("Tokens computed again", "short",
              "A second, after preemptions.",
              of={
                  "{{instance}}":
                      "sum by (instance) (rate(holdfast_scheduler_recomputed_tokens_total[r]))"}),
        panel("Failed steps", "short",
              "In 5 minutes. Their requests end with 503; the log says why.",
              of={
                  "{{instance}}":
                      "sum by (instance) (increase(holdfast_scheduler_steps_failed_total[5m]))"}),
        panel("Run ahead of restores", "short",
              "A second; lost: in vain.",
              of={
                  "begun": "sum(rate(holdfast_scheduler_run_ahead_total[r]))",
                  "lost": "sum(rate(holdfast_scheduler_run_ahead_lost_total[r]))"}),
    ],
    "What is saved?": [
        panel("Drafts", "short",
              "Tokens a second that were guessed, and that were right (scheduler.speculation).",
              of={
                  "guessed": "sum(rate(holdfast_scheduler_draft_tokens_total[r]))",
                  "right": "sum(rate(holdfast_scheduler_accepted_draft_tokens_total[r]))"}),
        panel("Drafts that were right", "percentunit",
              "Only with scheduler.speculation.",
              of={
                  "right":
                      "sum(rate(holdfast_scheduler_accepted_draft_tokens_total[r])) / "
                      "(sum(rate(holdfast_scheduler_draft_tokens_total[r])) > 0)"}),
        panel("Forced tokens", "short",
              "A second, that a form of the answer left no choice of: taken without a step of "
              "their own.",
              of={
                  "tokens": "sum(rate(holdfast_scheduler_forced_tokens_total[r]))"}),
    ],
})


# ---- JSON of Grafana -------------------------------------------------------------------------------


def narrowed(query, variables):
    def with_choice(match):
        name, brace = match.groups()
        choice = ['instance=~"$instance"']
        if "tenant" in variables and OF_TENANTS.match(name):
            choice.append('tenant=~"$tenant"')
        return name + "{" + ",".join(choice) + ("," if brace else "}")

    return METRIC.sub(with_choice, query).replace("[r]", "[$__rate_interval]")


def variable(name):
    query = {"instance": "label_values(holdfast_build_info, instance)",
             "tenant": "label_values(holdfast_scheduler_prompt_tokens_total, tenant)"}[name]
    return {"name": name, "type": "query", "datasource": DATASOURCE, "query": query, "refresh": 2, "sort": 1,
            "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"selected": True, "text": "All", "value": "$__all"}}


def panel_json(number, what, x, y, variables):
    unit = {"unit": what["unit"], "min": 0}
    if what["title"] == "Memoryfulness":
        unit["min"] = -1
    options = {"tooltip": {"mode": "multi", "sort": "desc"},
               "legend": {"displayMode": "list", "placement": "bottom"}}
    if what["kind"] == "timeseries":
        unit["custom"] = {"fillOpacity": 10, "showPoints": "never"}
    elif what["kind"] == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name"}
    targets = [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "legendFormat": legend,
                "expr": narrowed(query, variables)}
               for i, (legend, query) in enumerate(what["of"].items())]
    return {"id": number, "type": what["kind"], "title": what["title"], "description": what["about"],
            "datasource": DATASOURCE, "gridPos": {"x": x, "y": y, "w": what["width"], "h": HEIGHT},
            "fieldConfig": {"defaults": unit, "overrides": []}, "options": options, "targets": targets}


def dashboard_json(name, title, variables, rows):
    panels, y = [], 0
    for question, members in rows.items():
        panels.append({"id": len(panels) + 1, "type": "row", "title": question, "collapsed": False,
                       "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        x, y = 0, y + 1
        for what in members:
            if x + what["width"] > 24:
                x, y = 0, y + HEIGHT
            panels.append(panel_json(len(panels) + 1, what, x, y, variables))
            x += what["width"]
        y += HEIGHT
    return {"uid": f"holdfast-{name}", "title": f"Holdfast: {title}", "tags": ["holdfast"],
            "schemaVersion": 39, "editable": True, "graphTooltip": 1, "refresh": "10s", "time": {"from": "now-1h", "to": "now"},
            "links": [{"type": "dashboards", "title": "Holdfast", "tags": ["holdfast"], "asDropdown": False,
                       "includeVars": True, "keepTime": True}],
            "templating": {"list": [variable(name) for name in variables]}, "panels": panels}


def texts():
    """Name to text of each file."""
    return {f"{name}.json": json.dumps(dashboard_json(name, *rest), indent=1) + "\n"
            for name, *rest in (OVERVIEW, TENANTS, KV, AGENTS, ENGINE)}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
