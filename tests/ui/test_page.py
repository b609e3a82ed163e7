"""What a person does with the page at /ui, in Chromium."""

import contextlib
import gzip
import json
import pathlib
import re
import threading
import urllib.request

import pytest
from conftest import DESKTOP, PHONE, SMALL
from daemon import Daemon, new_key, wait_until

AXE = pathlib.Path(__file__).resolve().parents[2] / "ui/node_modules/axe-core/axe.min.js"
VIEWS = ("chat", "live", "usage")


def raw(url, **headers):
    """(status, headers, body), nothing unpacked."""
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def parameter(page, label, value):
    page.get_by_label(label, exact=True).fill(value)


def ask(page, text, tokens="24"):
    parameter(page, "Temperature", "0")
    parameter(page, "Most tokens", tokens)
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Control+Enter")


def finished(page, number=0):
    """The `number`th answer, once it is over."""
    answer = page.locator("article.assistant").nth(number)
    answer.locator(".facts").wait_for()
    return answer


def serious_findings(page):
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)]))")
    return [one for one in found if one[0] in ("serious", "critical")]


def test_the_page_is_small_and_its_first_paint_waits_for_no_script(daemon, open_page):
    page = open_page(daemon.url)
    page.get_by_label("Message", exact=True).wait_for()
    timing = page.evaluate("""performance.getEntriesByType('resource')
        .filter(e => ['script', 'link', 'css'].includes(e.initiatorType))
        .map(e => [e.name, e.renderBlockingStatus])""")
    assert any(name.endswith(".js") for name, _ in timing), timing
    assert all(status == "non-blocking" for name, status in timing if name.endswith(".js")), timing
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint').length") == 1
    sizes = {}
    for url in [daemon.url + "/ui/"] + [name for name, _ in timing if "/ui/" in name]:
        status, headers, body = raw(url, Accept_Encoding="gzip")
        assert status == 200 and headers["Content-Encoding"] == "gzip", url
        assert gzip.decompress(body) == raw(url)[2], url
        sizes[url] = len(body)
    assert len(sizes) >= 3 and sum(sizes.values()) < 300_000, sizes


def test_files_come_with_their_rules(daemon):
    status, headers, page = raw(daemon.url + "/ui/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-cache"
    status, again, body = raw(daemon.url + "/ui/", If_None_Match=headers["ETag"])
    assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
    script = re.search(rb'src="\./(assets/[^"]+\.js)"', page).group(1).decode()
    status, headers, _ = raw(f"{daemon.url}/ui/{script}")
    assert status == 200 and "immutable" in headers["Cache-Control"]
    assert raw(daemon.url + "/ui/assets/none.js")[0] == 404


def test_an_answer_streams_and_stops_by_escape(daemon, open_page):
    page = open_page(daemon.url, "/ui")
    assert page.url == daemon.url + "/ui/"
    parameter(page, "More fields of the request (JSON)", '{"ignore_eos": true}')
    ask(page, "Tell a very long story.", tokens="1800")
    answer = page.locator("article.assistant")
    answer.locator(".text").wait_for()
    first = answer.inner_text()
    assert wait_until(lambda: len(answer.inner_text()) > len(first) + 20), "it does not stream"
    assert daemon.metric("vllm:num_requests_running") == 1
    page.keyboard.press("Escape")
    assert "stopped" in finished(page).locator(".facts").inner_text()
    assert wait_until(lambda: daemon.metric("vllm:num_requests_running") == 0)
    assert page.get_by_label("Message", exact=True).is_enabled()
    assert page.get_by_role("button", name="Stop").is_disabled()


def test_a_conversation_goes_on_and_begins_anew(daemon, open_page, picture):
    page = open_page(daemon.url)
    parameter(page, "System message", "You are a helpful assistant who answers in one sentence.")
    ask(page, "What is the capital of France?", tokens="48")
    assert "Paris" in finished(page).inner_text()
    assert "first token after" in finished(page).locator(".facts").inner_text()
    ask(page, "And of Italy?", tokens="48")
    facts = finished(page, 1).locator(".facts").inner_text()
    cached = re.search(r"(\d+) prompt tokens, (\d+) of them cached", facts)
    assert 0 < int(cached.group(2)) < int(cached.group(1)), facts
    picture(page, "page_chat")
    page.get_by_role("button", name="New conversation").click()
    assert page.locator("article").count() == 0


def test_a_refusal_is_shown_where_the_answer_would_be(daemon, open_page):
    page = open_page(daemon.url, expected=("400",))
    parameter(page, "More fields of the request (JSON)", '{"no_such_field": 1}')
    ask(page, "Hello")
    assert "no_such_field" in page.locator("article.assistant [role=alert]").inner_text()
    parameter(page, "More fields of the request (JSON)", "{")
    ask(page, "What I typed")
    assert "not JSON" in page.locator(".talk > [role=alert]").inner_text()
    assert page.get_by_label("Message", exact=True).input_value() == "What I typed"
    assert page.locator("article.user").count() == 1


def answered(*deltas, end="data: [DONE]\n\n"):
    """A route of the page's that answers a chat with these."""
    events = [f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n" for delta in deltas]
    return lambda route: route.fulfill(content_type="text/event-stream", body="".join(events) + end)


def test_json_is_shown_as_the_model_wrote_it(daemon, open_page):
    page = open_page(daemon.url)
    shown = page.get_by_role("region", name="Answer as JSON")
    for number, (written, seen) in enumerate([
            ('{"id": 12345678901234567890}', '{"id": 12345678901234567890}'),
            ('{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
            ('{"a":"x  y","b":[1]}', '{\n  "a": "x  y",\n  "b": [\n    1\n  ]\n}')]):
        page.route("**/chat/completions", answered({"content": written}))
        ask(page, "Hello")
        finished(page, number)
        assert shown.nth(number).inner_text() == seen


def test_calls_of_an_answer_that_was_cut_wait_for_no_results(daemon, open_page):
    page = open_page(daemon.url)
    call = {"index": 0, "id": "c", "function": {"name": "get_weather", "arguments": '{"ci'}}
    page.route("**/chat/completions", answered({"content": "Well,"}, {"tool_calls": [call]}, end=""))
    ask(page, "Hello")
    assert "cut off" in page.locator("article.assistant [role=alert]").inner_text()
    assert page.get_by_label("Result of get_weather").count() == 0
    with page.expect_request("**/chat/completions") as asked:
        ask(page, "Go on")
    assert asked.value.post_data_json["messages"][1] == {"role": "assistant", "content": "Well,"}


def test_an_answer_is_held_to_a_schema_and_shown_as_json(daemon, open_page):
    page = open_page(daemon.url)
    page.get_by_label("Form of the answer").select_option("JSON schema")
    ask(page, "Invent a person.", tokens="200")
    finished(page)
    person = json.loads(page.get_by_role("region", name="Answer as JSON").inner_text())
    assert set(person) == {"name", "age"} and isinstance(person["age"], int)


def test_a_call_of_a_tool_is_shown_and_its_result_sent(daemon, open_page):
    page = open_page(daemon.url)
    page.get_by_role("button", name="Fill in an example").click()
    page.get_by_label("Use of tools").select_option("at least one call")
    parameter(page, "More fields of the request (JSON)", '{"parallel_tool_calls": false}')
    ask(page, "What is the weather in Rome?", tokens="200")
    call = finished(page).locator(".call")
    assert "get_weather" in call.locator("h3").inner_text()
    assert "city" in json.loads(call.locator("pre").inner_text())
    page.get_by_label("Use of tools").select_option("no call")
    page.get_by_label("Result of get_weather").fill('{"sky": "clear"}')
    page.get_by_role("button", name="Send the result").click()
    finished(page, 1)
    assert page.locator("article.tool .text").inner_text() == '{"sky": "clear"}'


def test_probabilities_of_tokens_are_shown_by_pointer_and_by_keyboard(daemon, open_page, picture):
    page = open_page(daemon.url)
    page.get_by_label("Token probabilities").check()
    ask(page, "What is the capital of France?")
    answer = finished(page)
    tokens = answer.locator("button.token")
    assert tokens.count() > 3 and not answer.locator(".alternatives").is_visible()
    tokens.nth(2).hover()
    table = answer.locator(".alternatives")
    assert table.locator("tbody tr").count() == 5
    shares = [float(t.split()[0]) for t in table.locator("td.number").all_inner_texts()]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.1
    picture(page, "page_tokens")
    tokens.nth(0).focus()
    caption = table.locator("caption").inner_text()
    page.keyboard.press("ArrowRight")
    assert tokens.nth(1).evaluate("e => e === document.activeElement")
    assert table.locator("caption").inner_text() != caption
    page.keyboard.press("End")
    assert tokens.last.evaluate("e => e === document.activeElement")


def focused(page):
    """(what has the focus, whether that can be seen)."""
    return page.evaluate("""() => {
        const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
        const name = e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent;
        return [name.trim(), s.outlineStyle !== 'none' && r.width > 1 && r.height > 1];
    }""")


def test_all_of_it_is_reached_by_keyboard(daemon, open_page):
    page = open_page(daemon.url)
    page.get_by_label("Message", exact=True).wait_for()
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, visible = focused(page)
        if page.evaluate("document.activeElement === document.body"):
            break
        assert visible, name
        seen.append(name)
        if name == "Message":
            page.keyboard.type("What is the capital of France?")
        if name == "Temperature":
            page.keyboard.type("0")
    for name in ("Skip to the content", "Chat", "Live", "Usage", "Messages", "Message", "Send",
                 "Parameters", "System message", "Temperature", "Token probabilities",
                 "Form of the answer", "Back to defaults"):
        assert name in seen, (name, seen)
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.press("Control+Enter")
    assert "Paris" in finished(page).inner_text()
    page.keyboard.press("Control+Home")
    page.get_by_role("link", name="Live").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Queue").wait_for()
    assert page.get_by_role("link", name="Live").get_attribute("aria-current") == "page"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_each_view_is_accessible_and_as_wide_as_the_screen(daemon, open_page, scheme, size, picture):
    page = open_page(daemon.url, color_scheme=scheme, viewport=size)
    if size == PHONE:
        page.get_by_text("Parameters", exact=True).click()
    page.get_by_label("Token probabilities").check()
    parameter(page, "Keep KV after the answer, seconds", "100")
    ask(page, "What is the capital of France?")
    finished(page).locator("button.token").nth(1).hover()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(n) for n in re.findall(r"\d+", ground)[:3]) / 3
    assert light > 200 if scheme == "light" else light < 60
    for view in VIEWS:
        page.goto(f"{daemon.url}/ui/#{view}")
        page.locator("main table:visible, article:visible").first.wait_for()
        if view == "live":
            page.locator(".chart").first.wait_for()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], (view, width)
        assert serious_findings(page) == [], view
        if (size, scheme, view) == (DESKTOP, "light", "usage"):
            picture(page, "page_usage")
        if (size, scheme, view) == (PHONE, "dark", "live"):
            picture(page, "page_phone")


def test_the_live_view_shows_what_runs_and_what_is_kept(daemon, open_page):
    chat = open_page(daemon.url)
    live = open_page(daemon.url, "/ui/#live", color_scheme="dark", viewport={"width": 1180, "height": 1780})
    live.get_by_role("heading", name="Latency and hits").wait_for()
    parameter(chat, "Keep KV after the answer, seconds", "300")
    for text in ("What is the capital of France?", "And of Italy?"):
        ask(chat, text)
        finished(chat, chat.locator("article.assistant").count() - 1)
    pins = live.get_by_role("table", name="KV kept between turns, the next to end first")
    pin = pins.get_by_role("row").filter(has_text="page-").last
    pin.wait_for()
    assert "its client asked for it" in pin.inner_text()
    left = pin.get_by_role("cell").last
    before = left.inner_text()
    assert re.fullmatch(r"\d min \d+ s", before)
    assert wait_until(lambda: left.inner_text() != before), "no countdown"
    parameter(chat, "Keep KV after the answer, seconds", "")
    parameter(chat, "More fields of the request (JSON)", '{"ignore_eos": true}')
    ask(chat, "Tell a very long story.", tokens="1600")
    running = live.get_by_role("table", name="Running sequences").get_by_role("row").nth(1)
    assert wait_until(lambda: "drawing" in running.inner_text())
    assert "default" in live.get_by_role("table", name="By tenant", exact=True).inner_text()
    states = live.get_by_role("img", name=re.compile("Device, by state: .*in use"))
    states.wait_for()
    assert "pinned" in states.get_attribute("aria-label")
    tenants = live.get_by_role("img", name=re.compile("Device, by tenant: default"))
    assert tenants.locator("path").count() == 2
    assert live.get_by_role("img", name=re.compile("Host, by tenant")).count() == 1
    for title in ("Time to first token", "Between tokens", "Tokens a second", "Cache hit ratio"):
        chart = live.locator(".chart").filter(has_text=title)
        assert wait_until(lambda: re.search(r"\d", chart.locator("b").first.inner_text())), title
        assert chart.locator("canvas").bounding_box()["width"] > 300
    chat.keyboard.press("Escape")


class Load:
    """Tenants whose agents keep the daemon busy until the end of the `with`."""

    def __init__(self, url, keys):
        self.url, self.over = url, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(key, number), daemon=True)
                        for key in keys for number in range(3)]

    def run(self, key, number):
        turn = 0
        while not self.over.is_set():
            text = f"Agent {number} reads its notes. " + "Then it thinks of the next step. " * 8
            body = {"messages": [{"role": "user", "content": text + str(turn % 4)}], "max_tokens": 60,
                    "session_id": f"agent-{number}", "ignore_eos": True,
                    "kv_hints": {"action": "kv.retain", "ttl_ms": 20_000 * (number + 1)}}
            request = urllib.request.Request(self.url + "/v1/chat/completions", json.dumps(body).encode(),
                                             {"Authorization": f"Bearer {key}"})
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=300) as answer:
                answer.read()
            self.over.wait(turn % 3)
            turn += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def test_the_live_view_tells_tenants_apart_and_says_why_they_wait(open_page, picture, request):
    (admin_key, admin_hash), keys = new_key("x"), {name: new_key(name) for name in ("red", "blue", "green")}
    config = f'admin:\n  http: 127.0.0.1:0\n  keys: ["{admin_hash}"]\ntenants:\n' + "".join(
        f'  - name: {name}\n    keys: ["{hashed}"]\n    running_max: 1\n' for name, (_, hashed) in keys.items())
    with Daemon(*SMALL, config=config) as daemon:
        with Load(daemon.url, [key for key, _ in keys.values()]):
            page = open_page(f"http://127.0.0.1:{daemon.admin}", "/ui/#live", color_scheme="dark",
                             viewport={"width": 1180, "height": 1780})
            page.get_by_label("An administrator's key").fill(admin_key)
            page.keyboard.press("Enter")
            waiting = page.get_by_role("table", name="Waiting sequences")
            waiting.get_by_text("its tenant runs all it may").first.wait_for()
            page.get_by_role("img", name=re.compile("Device, by tenant: .*red.*blue.*green")).wait_for()
            pins = page.get_by_role("table", name="KV kept between turns, the next to end first")
            pins.get_by_text("its client asked for it").first.wait_for()
            page.get_by_label("Tenant", exact=True).select_option("blue")
            page.get_by_label("Tenant", exact=True).select_option("all together")
            assert serious_findings(page) == []
            if request.config.getoption("--screenshots"):
                page.wait_for_timeout(60_000)  # so that there is something in the charts
            picture(page, "page_live")


def test_tenants_lie_by_what_they_hold_and_keep_their_colours(daemon, open_page):
    blocks = {"t1": 0, "t2": 5, "t3": 40, "t4": 30, "t5": 20, "t6": 10, "t7": 9, "t8": 8}

    def kv(route):
        answer = route.fetch().json()
        one = answer["tenants"][0]
        answer["tenants"] = [{**one, "tenant": name, "tiers": {**one["tiers"], "device": {
            **one["tiers"]["device"], "blocks": count}}} for name, count in blocks.items()]
        route.fulfill(json=answer)

    page = open_page(daemon.url)
    page.route("**/admin/v1/kv", kv)
    page.get_by_role("link", name="Live").click()
    legend = page.get_by_role("list", name="Parts of Device, by tenant")

    def parts():
        return legend.evaluate("""list => [...list.children].map(
            one => [one.textContent.trim().split(' ')[0], one.querySelector('rect').getAttribute('class')])""")

    legend.wait_for()
    before = parts()
    assert [name for name, _ in before] == ["t3", "t4", "t5", "t6", "t7", "t8", "other", "nobody's"]
    blocks.update(t1=50, t3=1)
    assert wait_until(lambda: parts()[0][0] == "t1")
    assert [name for name, _ in parts()] == ["t1", "t4", "t5", "t6", "t7", "t8", "other", "nobody's"]
    assert parts()[1:6] == before[1:6] and parts()[0][1] == before[0][1]


def test_what_a_balancer_does_not_pass_on_is_said_and_not_asked_again(daemon, open_page):
    page = open_page(daemon.url, expected=("404",))
    asked = []
    page.route(re.compile("/(metrics|admin/.*)$"), lambda route: (
        asked.append(route.request.url), route.fulfill(status=404, body="<h1>404 Not Found</h1>")))
    page.route("**/admin/v1/usage*", lambda route: (
        asked.append(route.request.url), route.fulfill(status=404, body="<h1>404 Not Found</h1>")))
    for view in ("Live", "Usage"):
        page.get_by_role("link", name=view).click()
        for path in ("/metrics", "/admin"):
            page.locator(".notice").filter(has_text=f"does not pass {path} on").wait_for()
        asked.clear()
        page.wait_for_timeout(5500)
        assert asked == []


def test_metrics_are_not_asked_for_where_they_are_not_to_be_had(daemon, open_page):
    page = open_page(daemon.url)
    page.route("**/ui/port", lambda route: route.fulfill(json={**route.fetch().json(), "metrics": False}))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    for view in ("Live", "Usage"):
        page.get_by_role("link", name=view).click()
        page.locator(".notice").filter(has_text="its own machine alone").wait_for()
        page.get_by_role("heading", name="Queue" if view == "Live" else "Usage by time").wait_for()
    assert not [url for url in asked if url.endswith("/metrics")]


def test_nothing_is_asked_while_nobody_looks(daemon, open_page):
    page = open_page(daemon.url, "/ui/#live")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_event("request", lambda request: "/admin/v1/queue" in request.url)
    page.evaluate("""Object.defineProperty(document, 'hidden', {value: true, configurable: true});
                     document.dispatchEvent(new Event('visibilitychange'))""")
    page.wait_for_timeout(2500)
    asked.clear()
    page.wait_for_timeout(2500)
    assert asked == []
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_event("request", lambda request: "/admin/v1/queue" in request.url)


def test_usage_is_a_table_of_what_each_tenant_has_used(daemon, open_page):
    page = open_page(daemon.url)
    ask(page, "What is the capital of France?")
    finished(page)
    page.get_by_role("link", name="Usage").click()
    table = page.get_by_role("table", name="By tenant", exact=True)
    table.wait_for()
    names = table.get_by_role("columnheader").all_inner_texts()
    row = dict(zip(names, table.get_by_role("row").nth(1).get_by_role("cell").all_inner_texts()))
    assert row["Tenant"] == "default"
    total = daemon.metric("holdfast_server_requests_total")
    assert int(row["Requests"].replace(",", "")) == total >= int(row["Ok"].replace(",", "")) > 0
    assert int(row["Tokens drawn"].replace(",", "")) > 0
    ledger = page.get_by_role("table", name="Of the ledger")
    shown = ledger.get_by_role("row").nth(1)
    assert wait_until(lambda: shown.get_by_role("cell").nth(1).inner_text() == row["Requests"])
    page.get_by_label("a row for each").select_option("hour")
    ledger.get_by_role("columnheader", name="Time (UTC)").wait_for()
    page.get_by_label("up to, without").fill("2026-01-01")
    ledger.get_by_text("nothing was used in that time").wait_for()


def test_much_usage_is_shown_in_part_and_days_that_are_over_are_asked_for_once(daemon, open_page):
    page = open_page(daemon.url)
    asked = []

    def usage(route):
        asked.append(route.request.url)
        answer = route.fetch().json()
        if "by=day" in route.request.url and answer["data"]:
            answer["data"] = [{**answer["data"][0], "tenant": f"t{number}"} for number in range(1200)]
        route.fulfill(json=answer)

    ask(page, "What is the capital of France?")
    finished(page)
    page.route("**/admin/v1/usage*", usage)
    page.get_by_role("link", name="Usage").click()
    ledger = page.get_by_role("region", name="Of the ledger")
    assert wait_until(lambda: ledger.get_by_role("row").count() == 2)
    page.get_by_label("a row for each").select_option("day")
    ledger.get_by_text("and 700 more").wait_for()
    assert ledger.get_by_role("row").count() == 501
    page.get_by_label("up to, without").fill("2026-01-01")
    with page.expect_response(lambda answer: answer.url.endswith("to=2026-01-01&by=tenant")):
        page.get_by_label("a row for each").select_option("tenant")
    ledger.get_by_text("nothing was used in that time").wait_for()
    asked.clear()
    page.wait_for_timeout(5500)
    assert asked == []


def test_a_key_that_no_header_takes_is_refused_and_a_wrong_one_is_dropped(open_page):
    key, hashed = new_key("red")
    with Daemon(*SMALL, config=f'tenants:\n  - name: red\n    keys: ["{hashed}"]\n') as daemon:
        page = open_page(daemon.url, expected=("401",))
        for strange, number in (("\u201c" + key + "\u201d", "U+201C"), (key + "\u200b", "U+200B")):
            page.get_by_label("Your key").fill(strange)
            page.keyboard.press("Enter")
            page.get_by_role("alert").filter(has_text=number).wait_for()
            assert page.evaluate("sessionStorage.length") == 0
        page.get_by_label("Your key").fill("hf-wrong")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Forget key").click()
        assert wait_until(lambda: page.get_by_role("button", name="Forget key").count() == 0)
        page.evaluate("sessionStorage.setItem('holdfast.key', '\u201c')")  # as an older page stored it
        page.reload()
        page.get_by_role("button", name="Forget key").click()
        page.get_by_label("Your key").fill(key)
        page.keyboard.press("Enter")
        page.get_by_label("Message", exact=True).wait_for()


def test_a_tenant_is_shown_its_own_counts_alone(open_page):
    (all_key, all_hash), keys = new_key("x"), {name: new_key(name) for name in ("red", "blue")}
    config = "tenants:\n" + "".join(
        f'  - name: {name}\n    keys: ["{hashed}"]\n' for name, (_, hashed) in keys.items())
    config += f'  - name: watcher\n    keys: ["{all_hash}"]\n    admin: true\n'
    with Daemon(*SMALL, config=config) as daemon:
        for key, names in ((keys["red"][0], ["red"]), (all_key, ["blue", "red", "watcher"])):
            page = open_page(daemon.url, "/ui/#usage")
            page.get_by_label("Your key").fill(key)
            page.keyboard.press("Enter")
            table = page.get_by_role("table", name="By tenant", exact=True)
            table.wait_for()
            assert [row.split("\t")[0] for row in table.locator("tbody tr").all_inner_texts()] == names
            page.get_by_role("link", name="Live").click()
            choice = page.get_by_label("Tenant", exact=True)
            choice.wait_for()
            assert [one for one in choice.locator("option").all_inner_texts() if one != "all together"] == names


def test_with_keys_the_page_asks_for_one_and_each_port_says_what_it_has(open_page, picture):
    (admin_key, admin_hash), (key, hashed) = new_key("x"), new_key("red")
    config = (f'admin:\n  http: 127.0.0.1:0\n  keys: ["{admin_hash}"]\n'
              f'tenants:\n  - name: red\n    keys: ["{hashed}"]\n')
    with Daemon(*SMALL, config=config) as daemon:
        page = open_page(daemon.url, expected=("401",))
        page.get_by_label("Your key").fill("hf-wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Your key").fill(key)
        page.keyboard.press("Enter")
        ask(page, "What is the capital of France?")
        assert "Paris" in finished(page).inner_text()
        page.reload()
        page.get_by_label("Message", exact=True).wait_for()
        assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
        page.get_by_role("link", name="Live").click()
        assert "port for administrators" in page.locator(".notice").first.inner_text()
        page.locator(".notice").filter(has_text="No charts here").wait_for()
        assert page.locator(".chart").count() == 0
        page.get_by_role("button", name="Forget key").click()
        page.get_by_label("Your key").wait_for()
        assert page.evaluate("sessionStorage.length") == 0

        admin = open_page(f"http://127.0.0.1:{daemon.admin}")
        admin.get_by_label("An administrator's key").fill(admin_key)
        admin.keyboard.press("Enter")
        admin.get_by_role("table", name="By tenant", exact=True).wait_for()
        assert "red" in admin.get_by_role("table", name="By tenant", exact=True).inner_text()
        admin.get_by_role("link", name="Chat").click()
        assert "other port" in admin.locator(".notice").inner_text()
