"""As little of a server as serving.py needs around OpenVINO GenAI, which has none of its own in
Python: chat completions, streamed, over its continuous batching with prefix caching.

    PYTHON tests/bench/openvino_server.py --model FILE.gguf --port N [--threads 2] [--cache-gib 1]

PYTHON is an environment with openvino-genai and aiohttp (see peers.md). One thread steps the
pipeline while there is work and hands each step's tokens to the streams.
"""

import argparse
import asyncio
import itertools
import json
import threading

import openvino_genai as genai
from aiohttp import web

END = None


class Stepper:
    """Owns the pipeline; `submit` from the event loop, steps on a thread of its own."""

    def __init__(self, pipeline, loop):
        self.pipeline, self.loop = pipeline, loop
        self.arrived, self.work = [], threading.Condition()
        self.numbers = itertools.count()
        threading.Thread(target=self.run, daemon=True).start()

    def submit(self, prompt, config):
        tokens = asyncio.Queue()
        with self.work:
            self.arrived.append((prompt, config, tokens))
            self.work.notify()
        return tokens

    def run(self):
        running = []
        while True:
            with self.work:
                while not self.arrived and not running:
                    self.work.wait()
                arrived, self.arrived = self.arrived, []
            for prompt, config, tokens in arrived:
                handle = self.pipeline.add_request(next(self.numbers), prompt, config)
                running.append((handle, tokens))
            self.pipeline.step()
            for handle, tokens in running:
                while handle.can_read():
                    for output in handle.read().values():
                        self.loop.call_soon_threadsafe(tokens.put_nowait,
                                                       list(output.generated_ids))
            done = [pair for pair in running
                    if pair[0].get_status() != genai.GenerationStatus.RUNNING]
            for _, tokens in done:
                self.loop.call_soon_threadsafe(tokens.put_nowait, END)
            running = [pair for pair in running if pair not in done]


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def make_app(pipeline):
    tokenizer = pipeline.get_tokenizer()
    app, state = web.Application(), {}

    async def start(_):
        state["stepper"] = Stepper(pipeline, asyncio.get_running_loop())

    async def models(_):
        return web.json_response({"data": [{"id": "model", "object": "model"}]})

    async def chat(request):
        body = await request.json()
        config = genai.GenerationConfig(max_new_tokens=body["max_tokens"], do_sample=False,
                                        ignore_eos=body.get("ignore_eos", False))
        prompt = tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True)
        tokens = state["stepper"].submit(prompt, config)
        answer, count = web.StreamResponse(headers={"Content-Type": "text/event-stream"}), 0
        await answer.prepare(request)
        while (some := await tokens.get()) is not END:
            count += len(some)
            await answer.write(event(choices=[{"index": 0, "delta": {
                "content": tokenizer.decode(some)}}]))
        await answer.write(event(choices=[], usage={"completion_tokens": count}))
        await answer.write(b"data: [DONE]\n\n")
        await answer.write_eof()
        return answer

    app.on_startup.append(start)
    app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
    return app


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache-gib", type=int, default=1)
    args = parser.parse_args()
    scheduling = genai.SchedulerConfig()
    scheduling.cache_size = args.cache_gib
    scheduling.enable_prefix_caching = True
    scheduling.max_num_seqs = 16
    scheduling.max_num_batched_tokens = 512
    pipeline = genai.ContinuousBatchingPipeline(args.model, scheduling, "CPU",
                                                {"INFERENCE_NUM_THREADS": args.threads})
    web.run_app(make_app(pipeline), host="127.0.0.1", port=args.port, print=None)


if __name__ == "__main__":
    main()
