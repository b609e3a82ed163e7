"""Writes tiny models with random weights as Hugging Face folders, and the logits that transformers
computes for them, one folder for each difference between model families that the engine knows.

    ORACLE/bin/python tests/golden/make_tiny_models.py

Weights are drawn wide enough that attention is far from uniform, so that a wrong rotation, window or
norm shows in every logit; the script checks this for the differences that can be switched off. Stored in
the type that the folder's row below says; the reference computes in float32 from the stored values.
"""

import json
import math
import pathlib
import shutil

import numpy as np
import tokenizers
import torch
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from safetensors.torch import save_file

import golden_format

OUT = pathlib.Path(__file__).parent / "models"
TOKENS = 72
VOCABULARY = 128
WINDOW = 20  # keys that a token sees, itself included

SIZES = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
             rms_norm_eps=1e-5, rope_theta=10000.0, bos_token_id=0, eos_token_id=1, use_cache=True,
             tie_word_embeddings=False, attn_implementation="eager")


def fill(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                weight.copy_(1.0 + 0.3 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.5 * noise)
            elif "embed" in name:
                weight.copy_(noise)
            else:
                gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
                weight.copy_(noise * gain / math.sqrt(weight.shape[1]))


def tokens_of(seed):
    return np.random.default_rng(seed).integers(2, VOCABULARY, TOKENS).tolist()


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def round_weights(model, dtype):
    """What remains of the weights after storing them in dtype, computed with in float32. Weights
    alone: model.to() would round the rotary frequencies too, which no file stores."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.to(dtype).float())
    model.eval()


def tokens_and_logits(model, seed):
    """Tokens for which no position's two best logits are so close that rounding could swap them:
    the test wants the same best token everywhere."""
    while True:
        logits = logits_of(model, tokens_of(seed))
        best = np.sort(logits, axis=1)
        gap = (best[:, -1] - best[:, -2]) / (best[:, -1] - best[:, 0])
        if gap.min() > 5e-4:
            return tokens_of(seed), logits
        seed += 1000


# ---- Rotary scalings ----------------------------------------------------------------------------

def base_frequencies(theta, dim):
    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.int64).float() / dim)


def llama3_frequencies(theta, dim, factor, low_freq_factor, high_freq_factor, original):
    """Source of the formula: transformers 4.45, modeling_rope_utils._compute_llama3_parameters."""
    frequencies = base_frequencies(theta, dim)
    wavelengths = 2 * math.pi / frequencies
    smooth = (original / wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor)
    mixed = (1 - smooth) * frequencies / factor + smooth * frequencies
    scaled = torch.where(wavelengths > original / low_freq_factor, frequencies / factor, mixed)
    return torch.where(wavelengths < original / high_freq_factor, frequencies, scaled), 1.0


def yarn_frequencies(theta, dim, factor, original, beta_fast=32.0, beta_slow=1.0):
    """Source of the formula: transformers 4.45, modeling_rope_utils._compute_yarn_parameters;
    Peng et al., YaRN (2023), section 3."""
    def correction_dim(rotations):
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(correction_dim(beta_fast)), 0)
    high = min(math.ceil(correction_dim(beta_slow)), dim - 1)
    if low == high:
        high += 0.001
    ramp = torch.clamp((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low), 0, 1)
    frequencies = base_frequencies(theta, dim)
    return frequencies / factor * ramp + frequencies * (1 - ramp), 0.1 * math.log(factor) + 1.0


class ScaledRotary(LlamaRotaryEmbedding):
    """Llama's rotary module with given frequencies; cos and sin times an attention factor."""

    def __init__(self, dim, frequencies, attention_factor):
        super().__init__(dim)
        self.inv_freq.copy_(frequencies)
        self.attention_factor = attention_factor

    def forward(self, x, position_ids):
        cos, sin = super().forward(x, position_ids)
        return cos * self.attention_factor, sin * self.attention_factor


def set_rotary(model, frequencies, attention_factor):
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.rotary_emb = ScaledRotary(attention.head_dim, frequencies, attention_factor)


# ---- Qwen3 --------------------------------------------------------------------------------------

class HeadNorm(torch.nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class NormedProjection(torch.nn.Module):
    """A projection whose heads are normalised, each by itself, before the rotation."""

    def __init__(self, inputs, heads, dim, eps):
        super().__init__()
        self.proj, self.norm = torch.nn.Linear(inputs, heads * dim, bias=False), HeadNorm(dim, eps)
        self.shape = (heads, dim)

    def forward(self, x):
        y = self.proj(x)
        return self.norm(y.view(*y.shape[:-1], *self.shape)).reshape(y.shape)


def make_qwen3(head_dim):
    """Qwen3 as a changed Qwen2: no bias, a free head size, RMS norms on the heads of q and k.
    Source: transformers 4.51, models/qwen3/modeling_qwen3.py, Qwen3Attention."""
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES))
    for layer in model.model.layers:
        a = layer.self_attn
        hidden, eps = a.hidden_size, SIZES["rms_norm_eps"]
        a.q_proj = NormedProjection(hidden, a.num_heads, head_dim, eps)
        a.k_proj = NormedProjection(hidden, a.num_key_value_heads, head_dim, eps)
        a.v_proj = torch.nn.Linear(hidden, a.num_key_value_heads * head_dim, bias=False)
        a.o_proj = torch.nn.Linear(a.num_heads * head_dim, hidden, bias=False)
        a.head_dim, a.hidden_size = head_dim, a.num_heads * head_dim
        a.rotary_emb = type(a.rotary_emb)(head_dim, SIZES["max_position_embeddings"],
                                          SIZES["rope_theta"])
    return model


def qwen3_names(state):
    names = {}
    for name, weight in state.items():
        for part in "qk":
            name = name.replace(f"{part}_proj.proj.", f"{part}_proj.")
            name = name.replace(f"{part}_proj.norm.", f"{part}_norm.")
        names[name] = weight.contiguous()
    return names


# ---- Folders ------------------------------------------------------------------------------------

def edit_json(path, changes):
    content = json.loads(path.read_text()) if path.exists() else {}
    content.update(changes)
    content.pop("_attn_implementation", None)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def finish(folder, tokens, logits, config_changes=None, eos=1):
    edit_json(folder / "config.json", config_changes or {})
    edit_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": eos})
    golden_format.write_logits(folder / "expected.logits", tokens, logits, logits.shape[1])
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder.name}: {size // 1024} kB, logits {logits.min():.2f} to {logits.max():.2f}")


def fresh(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def make(name, seed, model, dtype, config_changes=None, rotary=None, shard=None, eos=1):
    """Fills, rounds, computes, saves. rotary: (frequencies, attention factor)."""
    folder = fresh(name)
    fill(model, seed)
    round_weights(model, dtype)
    if rotary is not None:
        plain = logits_of(model, tokens_of(seed))
        set_rotary(model, *rotary)
        assert np.abs(plain - logits_of(model, tokens_of(seed))).max() > 0.1
    tokens, logits = tokens_and_logits(model, seed)
    # What transformers calls a window holds one key more than its name says in 4.41 (masked from
    # window + 1 back on); later releases, and the model's authors, count the token itself.
    if getattr(model.config, "sliding_window", None) == WINDOW - 1:
        model.config.sliding_window = WINDOW
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    finish(folder, tokens, logits, config_changes, eos)
    return folder


def write_tokenizer(folder):
    """The 256 bytes, begin, end, and the two marks of a chat: enough to serve text from it."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    special = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate(special + alphabet)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
                "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    edit_json(folder / "tokenizer_config.json",
              {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>",
               "eos_token": "<|im_end|>", "chat_template": template, "add_bos_token": False})


def main():
    dim = SIZES["hidden_size"] // SIZES["num_attention_heads"]
    f32, f16, bf16 = torch.float32, torch.float16, torch.bfloat16

    small = dict(SIZES, intermediate_size=64)
    make("llama_f32", 1, LlamaForCausalLM(LlamaConfig(**small)), f32)
    make("llama_f16_sharded", 2, LlamaForCausalLM(LlamaConfig(**SIZES)), f16, shard="60KB",
         eos=[1, 5])
    make("llama_biases_bf16", 3,
         LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)), bf16)

    # Tied head, multi-query attention, three layers, and a byte tokenizer, so that text can be served.
    tied = dict(SIZES, vocab_size=260, tie_word_embeddings=True, num_hidden_layers=3,
                num_key_value_heads=1, eos_token_id=3)
    write_tokenizer(make("llama_tied_bf16", 4, LlamaForCausalLM(LlamaConfig(**tied)), bf16,
                         eos=[1, 3]))

    linear = {"type": "linear", "factor": 4.0}
    make("llama_rope_linear", 5,
         LlamaForCausalLM(LlamaConfig(**SIZES, rope_scaling=linear)), bf16)
    llama3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    make("llama_rope_llama3", 6, LlamaForCausalLM(LlamaConfig(**SIZES)), bf16,
         {"rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 32, **llama3}},
         llama3_frequencies(SIZES["rope_theta"], dim, original=32, **llama3))
    make("llama_rope_yarn", 7, LlamaForCausalLM(LlamaConfig(**SIZES)), bf16,
         {"rope_scaling": {"rope_type": "yarn", "type": "yarn", "factor": 4.0,
                           "original_max_position_embeddings": 64}},
         yarn_frequencies(SIZES["rope_theta"], dim, 4.0, 64))

    make("mistral_window", 8,
         MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW - 1)), bf16)
    windowed, whole = (MistralForCausalLM(MistralConfig(**SIZES, sliding_window=w))
                       for w in (WINDOW - 1, None))
    fill(windowed, 8), fill(whole, 8)
    difference = np.abs(logits_of(windowed, tokens_of(8)) - logits_of(whole, tokens_of(8))).max(1)
    assert difference[WINDOW - 1] == 0 and (difference[WINDOW:] > 1e-3).all()

    make("qwen2", 9, Qwen2ForCausalLM(Qwen2Config(**SIZES)), bf16)

    # transformers 4.41's eager Qwen2 windows every layer when a window is set, whatever
    # use_sliding_window says; here only layers from max_window_layers on have one, as its
    # configuration's documentation says and later releases do. So layer 0's mask is replaced.
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, sliding_window=WINDOW - 1))
    plain = model.model.layers[0].forward
    causal = torch.full((TOKENS, TOKENS), torch.finfo(torch.float32).min).triu(1)[None, None]
    model.model.layers[0].forward = lambda x, **kwargs: plain(
        x, **{**kwargs, "attention_mask": causal})
    make("qwen2_window_upper", 10, model, bf16,
         {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": WINDOW})

    model = make_qwen3(head_dim=32)
    folder = fresh("qwen3")
    fill(model, 11)
    round_weights(model, bf16)
    tokens, logits = tokens_and_logits(model, 11)
    save_file(qwen3_names({n: w.to(bf16) for n, w in model.state_dict().items()}),
              str(folder / "model.safetensors"), {"format": "pt"})
    model.config.save_pretrained(folder)
    finish(folder, tokens, logits,
           {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 32,
            "attention_bias": False, "use_sliding_window": False, "torch_dtype": "bfloat16"})


if __name__ == "__main__":
    main()
