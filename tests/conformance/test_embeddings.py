"""Embeddings by the unmodified official SDK, and scores by them as peers' clients ask for them."""

import array

import httpx
import openai
import pytest
from daemon import Daemon

MODEL = "SmolLM2-135M-Instruct"
SIZE = 576
TEXTS = ["The cat sleeps on the warm windowsill.", "A kitten is napping in the sun by the window.",
         "The central bank raised interest rates again."]


def embed(client, texts, **more):
    answer = client.embeddings.create(model=MODEL, input=texts, **more)
    return [item.embedding for item in answer.data]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def test_a_text_becomes_a_vector_of_length_one(client):
    answer = client.embeddings.create(model=MODEL, input=TEXTS[0])
    assert answer.object == "list" and answer.model == MODEL
    assert answer.data[0].object == "embedding" and answer.data[0].index == 0
    assert len(answer.data[0].embedding) == SIZE
    assert dot(answer.data[0].embedding, answer.data[0].embedding) == pytest.approx(1, abs=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_the_sdks_base64_holds_the_numbers_of_the_list(client):
    numbers = [list(array.array("f", one)) for one in embed(client, TEXTS, encoding_format="float")]
    assert numbers == embed(client, TEXTS)  # the SDK asks for base64 unless told
    raw = client.post("/embeddings", cast_to=object, body={
        "model": MODEL, "input": TEXTS, "encoding_format": "base64"})
    assert all(isinstance(item["embedding"], str) for item in raw["data"])


def test_texts_together_are_what_they_are_alone_and_in_tokens(client, daemon):
    together = embed(client, TEXTS + TEXTS[:1])
    assert together[0] == together[3]
    assert together[:3] == [embed(client, text)[0] for text in TEXTS]
    tokens = [httpx.post(daemon.url + "/tokenize", json={"prompt": text}).json()["tokens"]
              for text in TEXTS]
    assert embed(client, tokens) == together[:3]
    assert embed(client, tokens[0]) == together[:1]


def test_like_texts_are_nearer_than_others(client):
    cat, kitten, bank = embed(client, TEXTS)
    assert dot(cat, kitten) > dot(cat, bank)


def test_dimensions_are_the_models_own(client):
    assert len(embed(client, TEXTS[0], dimensions=SIZE)[0]) == SIZE
    with pytest.raises(openai.BadRequestError) as caught:
        embed(client, TEXTS[0], dimensions=64)
    assert caught.value.param == "dimensions" and "matryoshka" in str(caught.value)


@pytest.mark.parametrize("more, param", [
    (dict(input=""), "input"), (dict(input=[]), "input"), (dict(input=["a", ""]), "input[1]"),
    (dict(input=["a"] * 2049), "input"), (dict(input=[10**6]), "input"),
    (dict(input=["a", "word " * 9000]), "input[1]"), (dict(encoding_format="int8"), "encoding_format"),
])
def test_what_is_wrong_is_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{**dict(model=MODEL, input="a"), **more})
    assert caught.value.param == param


def test_one_text_too_long_says_how_long_and_nothing_is_embedded(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=["a", "word " * 9000])
    assert caught.value.code == "context_length_exceeded"
    assert "input[1] has 900" in str(caught.value) and "8192" in str(caught.value)


def test_the_default_queue_holds_500_texts_at_once(client):
    assert len(embed(client, [f"number {i}" for i in range(500)])) == 500


def test_a_pooling_of_the_operators_choice_and_shorter_vectors():
    with Daemon(config="model: {pooling: last, matryoshka: true}") as daemon:
        client = openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0)
        text = " ".join(TEXTS)
        whole, = embed(client, text)
        answer = client.embeddings.create(model=MODEL, input=text)
        assert answer.data[0].embedding == whole  # behind a prefix that was found
        assert answer.usage.prompt_tokens_details["cached_tokens"] >= 16
        short, = embed(client, text, dimensions=64)
        assert len(short) == 64 and dot(short, short) == pytest.approx(1, abs=1e-6)
        assert dot(short, whole) == pytest.approx(dot(whole[:64], whole[:64]) ** 0.5, abs=1e-5)


def test_score_compares_as_vllms_does(client):
    answer = client.post("/score", cast_to=object, body={
        "model": MODEL, "text_1": TEXTS[0], "text_2": TEXTS})
    assert answer["object"] == "list" and [item["index"] for item in answer["data"]] == [0, 1, 2]
    scores = [item["score"] for item in answer["data"]]
    assert scores[0] == 1 and scores[1] > scores[2]
    cat, kitten, _ = embed(client, TEXTS)
    assert scores[1] == pytest.approx(dot(cat, kitten), abs=1e-5)
    pairs = client.post("/score", cast_to=object, body={"queries": TEXTS, "documents": TEXTS})
    assert [item["score"] for item in pairs["data"]] == [1, 1, 1]


def test_rerank_sorts_by_relevance(client):
    body = {"model": MODEL, "query": TEXTS[0], "documents": TEXTS[1:] + [{"text": TEXTS[0]}]}
    answer = client.post("/rerank", cast_to=object, body=body)
    assert [item["index"] for item in answer["results"]] == [2, 0, 1]
    assert answer["results"][0]["document"]["text"] == TEXTS[0]
    assert answer["results"][0]["relevance_score"] == 1
    assert answer["usage"]["total_tokens"] > 0
    best = client.post("/rerank", cast_to=object, body={
        **body, "top_n": 1, "return_documents": False})
    assert best["results"] == [{"index": 2, "relevance_score": 1.0}]
