"""Reference logits and perplexity of the default model, from the GGUF file itself: its weights are
dequantised to float32 and given to transformers' LlamaForCausalLM on the CPU.

    ORACLE/bin/python tests/golden/make_logits_golden.py [MODEL.gguf]

The file defaults to $HOLDFAST_MODEL. Writes default_model/*.logits and default_model/perplexity.bin.
"""

import os
import pathlib
import sys

import gguf
import numpy as np
import tokenizers
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import golden_format

HERE = pathlib.Path(__file__).parent
TOP = 64
WINDOWS, WINDOW_TOKENS = 8, 500

CHAT = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face" \
       "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n" \
       "<|im_start|>assistant\nThe capital of France is Paris.<|im_end|>\n"
PROMPTS = {
    "chat": CHAT,
    "code": "#include <vector>\n\nint Sum(const std::vector<int>& values) {\n  int sum = 0;\n"
            "  for (const int value : values) sum += value;\n  return sum;\n}\n",
    "mixed": "Zürich, 1 September 1987: 42,195 m in 2:11:09 — schnell! 東京は雨です。 🙂 naïve café",
    "one_token": "Hello",
}
LONG_TOKENS = 700  # of the perplexity text: more keys than two attention splits of 256


def read_model(path):
    reader = gguf.GGUFReader(path)

    def value(key):
        field = reader.fields[key]
        part = field.parts[field.data[0]]
        return bytes(part).decode() if field.types[-1] == gguf.GGUFValueType.STRING else part[0]

    def strings(key):
        field = reader.fields[key]
        return [bytes(field.parts[i]).decode() for i in field.data]

    assert value("general.architecture") == "llama"
    heads = int(value("llama.attention.head_count"))
    kv_heads = int(value("llama.attention.head_count_kv"))
    config = LlamaConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden_size=int(value("llama.embedding_length")),
        intermediate_size=int(value("llama.feed_forward_length")),
        num_hidden_layers=int(value("llama.block_count")),
        num_attention_heads=heads, num_key_value_heads=kv_heads,
        max_position_embeddings=int(value("llama.context_length")),
        rms_norm_eps=float(value("llama.attention.layer_norm_rms_epsilon")),
        rope_theta=float(value("llama.rope.freq_base")), tie_word_embeddings=True,
        attn_implementation="eager")
    names = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    state = {}
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        data = data.reshape([int(n) for n in reversed(tensor.shape)])
        if tensor.name == "token_embd.weight":
            state["model.embed_tokens.weight"] = state["lm_head.weight"] = torch.tensor(data)
            continue
        if tensor.name == "output_norm.weight":
            state["model.norm.weight"] = torch.tensor(data)
            continue
        _, layer, part, _ = tensor.name.split(".")
        if part in ("attn_q", "attn_k"):
            # The converter interleaved the two halves of each head's rows; put them back.
            count = heads if part == "attn_q" else kv_heads
            data = data.reshape(count, data.shape[0] // count // 2, 2, data.shape[1])
            data = data.swapaxes(1, 2).reshape(-1, data.shape[3])
        state[f"model.layers.{layer}.{names[part]}.weight"] = torch.tensor(data)
    model = LlamaForCausalLM(config).float().eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing and not unexpected, (missing, unexpected)

    # tokenizer.ggml.pre is smollm: single digits, then GPT-2's byte-level split.
    tokens = strings("tokenizer.ggml.tokens")
    types = reader.fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in strings("tokenizer.ggml.merges")]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    control = [tokens[i] for i, at in enumerate(types.data) if types.parts[at][0] == 3]
    tokenizer.add_special_tokens(control)
    return model, tokenizer


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ["HOLDFAST_MODEL"]
    out = HERE / "default_model"
    out.mkdir(exist_ok=True)
    model, tokenizer = read_model(path)

    prompts = {name: tokenizer.encode(text).ids for name, text in PROMPTS.items()}
    text = (HERE / "perplexity_text.txt").read_text(encoding="utf-8")
    ids = tokenizer.encode(text).ids
    assert len(ids) >= WINDOWS * WINDOW_TOKENS, f"the text has {len(ids)} tokens"
    prompts["long"] = ids[:LONG_TOKENS]
    for name, tokens in prompts.items():
        logits = logits_of(model, tokens)
        golden_format.write_logits(out / f"{name}.logits", tokens, logits, TOP)
        print(f"{name}: {len(tokens)} tokens, last argmax {logits[-1].argmax()}")

    windows = np.array(ids[:WINDOWS * WINDOW_TOKENS]).reshape(WINDOWS, WINDOW_TOKENS)
    nll = []
    for window in windows:
        logits = torch.tensor(logits_of(model, window.tolist())).double()
        logprobs = torch.log_softmax(logits[:-1], dim=1)
        nll.append(-logprobs.gather(1, torch.tensor(window[1:, None]).long()).sum().item())
    golden_format.write_perplexity(out / "perplexity.bin", windows, nll)
    print(f"perplexity {np.exp(sum(nll) / (WINDOWS * (WINDOW_TOKENS - 1))):.4f} of "
          f"{len(ids)} tokens, {WINDOWS} windows of {WINDOW_TOKENS}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
