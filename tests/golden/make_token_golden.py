"""Reference token ids: of the default model's tokenizer, of a tiny SentencePiece-like vocabulary and
of a tiny tokenizer.json.

    ORACLE/bin/python tests/golden/make_token_golden.py [MODEL.gguf]

The file defaults to $HOLDFAST_MODEL. Writes tokens_smollm2.jsonl, tokens_sentencepiece.json,
tiny_tokenizer.json and tokens_tiny_json.jsonl. No torch.

What the oracle is: for the default model, transformers' PreTrainedTokenizerFast over a tokenizer
put together here from the GGUF file's tokens and merges, by SmolLM2's published definition
(Digits(individual_digits), then ByteLevel with its regular expression; no normalizer). It shares
the BPE crate's ancestry with the code under test, at another version and with another regular
expression engine (Oniguruma). For the SentencePiece-like vocabulary it is SentencePiece's rule
written out below in the plainest way: merge the adjacent pair whose product scores best, leftmost
first, until none is left.
"""

import base64
import json
import os
import pathlib
import random
import sys

import gguf
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
CONTROL = 3

SENTENCES = """The quick brown fox jumps over the lazy dog.
It's what they'd've said: we're, you'll, I'm, don't, CAN'T, O'Brien's.
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.
Portez ce vieux whisky au juge blond qui fume — déjà vu, naïveté, cœur.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia; ¿qué? ¡sí!
Pchnąć w tę łódź jeża lub ośm skrzyń fig.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
Pijamalı hasta yağız şoföre çabucak güvendi. İIıi
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر
דג סקרן שט בים מאוכזב ולפתע מצא חברה
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश
আমি কাঁচ খেতে পারি, তাতে আমার কোনো ক্ষতি হয় না।
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน
いろはにほへと ちりぬるを わかよたれそ つねならむ
天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。
다람쥐 헌 쳇바퀴에 타고파. 키스의 고유조건은
Do bạch kim rất quý, sẽ dùng để lắp vô xương.
ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ᛫ᚠᛁᚱᚪ
გთხოვთ ახლავე გაიაროთ რეგისტრაცია
Բել դղյակի ձախ ժամն օֆ ազգությանը ցպահանջ
ሰማይ አይታረስ ንጉሥ አይከሰስ።
int main(int argc, char** argv) { return argc > 1 ? 0 : -1; }  // exit
def f(x: int = 0x7F) -> str:\n\treturn f"{x!r:>10}" if x else ''
SELECT COUNT(*) FROM t WHERE a <> 'b' AND c LIKE '%\\_x%';
#include <vector>\n\ntemplate <typename T>\nstruct S final : B<T> { T t_ = {}; };
const f = async (...a) => { await Promise.all(a.map(x => x?.y ?? `z${x}`)); };
{"a": [1, 2.5e-10, null, true], "b\\u00e9": {"c": "\\n"}}
<div class="x" id='y'>&nbsp;&amp;</div><!-- c -->
fn main() -> Result<(), Box<dyn Error>> { let v: Vec<_> = (0..10).collect(); Ok(()) }
for i in $(seq 1 10); do echo "${i}" | sed -e 's/[0-9]/x/g' >> /dev/null 2>&1; done
\\documentclass{article}\\begin{document}$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$
https://example.org/a/b?c=d&e=%20f#g mailto:someone@example.com 192.168.0.1 ::1
| a | b |\n|---|:-:|\n| 1 | **2** |\n\n- [x] done\n1. first\n> quote
😀😃😄 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ✈︎ ☺ 🤷🏻‍♀️ 1️⃣
1234567890 3.14159 1,000,000 １２３ ٠١٢٣ Ⅷ ½ ² ₃ 十二 1e-9 0b1010 0xDEADBEEF 2026-11-21T11:04:36Z
a\u0301 e\u0308 n\u0303 \u1E9B\u0323 \uFB01 \u212B ﷺ Ǆ ß ẞ ſ K
\u200b\u200c\u200d\u2060\ufeff \u00a0 \u2003\u3000 \u2028 \u2029 \u0085 \x0b\x0c \x00\x01\x1b[0m\x7f
\ufffd \ufdd0 \uffff \U0010ffff \ue000 \U000e0001 \U0001d518𝔘𝕏
...!!!??? --- ___ *** === +++ /// \\\\\\ ~~~ ^^^ ``` ''' \"\"\" «» „“ ‚‘ ¿¡ §¶ †‡ ‰ ™®©
ooooooooooooooooooooooo AAAAAAAAaaaaaaaa ababababababab 0000000000000000 ........................
Pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschifffahrtselektrizitätenhauptbetriebswerk
HelloWorld helloWorld hello_world HELLO-WORLD iPhone15Pro v2.0.1-rc3 x86_64 utf8mb4 C++20 .NET C#""".split("\n")
SENTENCES = [s.replace("\\n", "\n").replace("\\t", "\t") for s in SENTENCES]
SENTENCES = [s.encode("utf-8").decode("utf-8") for s in SENTENCES]
SPACES = [" ", "  ", "   ", "    ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\t\t ", " \u00a0",
          "\u3000", "\n\n\n  ", " " * 17, "\u2028", "\x0b", "\x85"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>",
           "<jupyter_text>", "<empty_output>"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80",
          b"\x80", b"\xf0\x80\x80\x80", b"\xe0\x80", b"\xfe\xff", b"\xf8\x88\x80\x80\x80", b"\xbf\xbf"]


def corpus(rng, specials):
    """At least 2,000 byte strings, all different."""
    words = [w for s in SENTENCES for w in s.split(" ") if w]
    out = [b""] + [bytes([b]) for b in range(256)]
    out += [s.encode() for s in SENTENCES] + [s.encode() for s in SPACES]
    for space in SPACES:
        out += [(space + "a").encode(), ("a" + space).encode(), (space + "1").encode(),
                ("a" + space + "b").encode(), (space + ".").encode()]
    while len(out) < 700:  # pieces of sentences, cut anywhere
        s = rng.choice(SENTENCES)
        a, b = sorted((rng.randrange(len(s) + 1), rng.randrange(len(s) + 1)))
        out.append(s[a:b].encode())
    while len(out) < 1150:  # words of all languages with all kinds of white space
        out.append("".join(rng.choice(words) + rng.choice(SPACES) for _ in range(rng.randrange(1, 6)))
                   .encode())
    while len(out) < 1350:  # digits
        out.append(("%s%d%s%d" % (rng.choice(["", " ", "-", "v", "$", "x"]),
                                  rng.randrange(10 ** rng.randrange(1, 14)),
                                  rng.choice([".", ",", ":", " ", "", "e", "/", "٣", "²"]),
                                  rng.randrange(10 ** rng.randrange(1, 5)))).encode())
    while len(out) < 1600:  # characters of all planes
        blocks = [(0x20, 0x7F), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF),
                  (0x2000, 0x2BFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
                  (0x1F300, 0x1FAFF), (0x1D400, 0x1D7FF), (0x20000, 0x2A6DF)]
        text = ""
        for _ in range(rng.randrange(1, 20)):
            low, high = rng.choice(blocks)
            text += chr(rng.randrange(low, high + 1))
        out.append(text.encode())
    while len(out) < 1900:  # broken UTF-8
        text = bytearray(rng.choice(SENTENCES).encode()[:rng.randrange(1, 80)])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text) + 1)
            text[at:at] = rng.choice(BROKEN)
        out.append(bytes(text))
    while len(out) < 1950:
        out.append(rng.randbytes(rng.randrange(1, 40)))
    while len(out) < 2350:  # control tokens, whole, broken and nested
        parts = [rng.choice(specials) for _ in range(rng.randrange(1, 4))]
        parts += [rng.choice(words) for _ in range(rng.randrange(4))]
        parts += [rng.choice(SPACES), rng.choice(["<|", "|>", "<", ">", "<|im_", "end|>"])]
        rng.shuffle(parts)
        if rng.random() < 0.3:
            at = rng.randrange(len(parts[0]) + 1)
            parts[0] = parts[0][:at] + rng.choice(specials) + parts[0][at:]
        out.append("".join(parts).encode())
    return list(dict.fromkeys(out))


def write_lines(path, lines):
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    path.write_text(text)
    print(f"{path.name}: {len(lines)} lines, {len(text)} bytes")


def cases(tokenizer, texts, **both):
    """Plain: control tokens in the text are text. Parsed: they are tokens (left out if equal)."""
    lines = []
    for raw in texts:
        text = raw.decode("utf-8", errors="replace")
        tokenizer._tokenizer.encode_special_tokens = True
        plain = tokenizer(text, **both)["input_ids"]
        tokenizer._tokenizer.encode_special_tokens = False
        parsed = tokenizer(text, **both)["input_ids"]
        line = {"bytes": base64.b64encode(raw).decode(), "plain": plain}
        if parsed != plain:
            line["parsed"] = parsed
        lines.append(line)
    return lines


def default_model(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    core = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    core.decoder = decoders.ByteLevel()
    specials = [t for t, kind in zip(tokens, types) if kind == CONTROL]
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    lines = cases(tokenizer, corpus(random.Random(20261121), specials), add_special_tokens=False)
    assert len(lines) >= 2000
    write_lines(HERE / "tokens_smollm2.jsonl", lines)


def sentencepiece():
    rng = random.Random(7)
    pieces = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    types = [2, 3, 3] + [6] * 256
    scores = [0.0] * len(pieces)
    text = " ".join(s for s in SENTENCES[:12] if s)
    words = ["▁" + w for w in text.split()]
    characters = sorted(set("".join(words)))
    # Every piece longer than a character is the sum of two others, as in a trained vocabulary.
    made = list(characters)
    seen = set(made)
    splits = [list(w) for w in words]
    while len(made) < len(characters) + 220:
        counts = {}
        for symbols in splits:
            for pair in zip(symbols, symbols[1:]):
                counts["".join(pair)] = counts.get("".join(pair), 0) + 1
        best = max((p for p in counts if p not in seen), key=lambda p: (counts[p], p))
        seen.add(best)
        made.append(best)
        for symbols in splits:
            i = 0
            while i + 1 < len(symbols):
                if symbols[i] + symbols[i + 1] == best:
                    symbols[i:i + 2] = [best]
                i += 1
    longer = [p for p in made if len(p) > 1]
    for rank, piece in enumerate(longer + [p for p in made if len(p) == 1]):
        pieces.append(piece)
        types.append(1)
        scores.append(float(-rank))
    pieces.append("<|tool|>")
    types.append(4)
    scores.append(0.0)
    ids = {p: i for i, p in enumerate(pieces)}
    normal = {p for p, kind in zip(pieces, types) if kind == 1}

    def encode_piece(text):
        if not text:
            return []
        symbols = list("▁" + text.replace(" ", "▁"))
        while True:
            pairs = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(zip(symbols, symbols[1:]))
                     if a + b in normal]
            if not pairs:
                break
            _, i = min(pairs)
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
        out = []
        for s in symbols:
            out += [ids[s]] if s in normal else [ids["<0x%02X>" % b] for b in s.encode()]
        return out

    def encode(text):  # user-defined tokens first; the space comes again after each
        out = []
        for n, part in enumerate(text.split("<|tool|>")):
            out += ([ids["<|tool|>"]] if n else []) + encode_piece(part)
        return out

    texts = ["", " ", "  ", "a", " a", "<s>", "</s>x", "<0x41>", "<|tool|>", "a<|tool|> b", "日本", "😀", "a\nb"]
    texts += SENTENCES[:25]
    while len(texts) < 300:
        s = rng.choice(SENTENCES[:14])
        a, b = sorted((rng.randrange(len(s) + 1), rng.randrange(len(s) + 1)))
        texts.append(s[a:b])
    data = {"tokens": pieces, "token_types": types, "scores": scores,
            "cases": [{"text": t, "ids": encode(t)} for t in texts]}
    out = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (HERE / "tokens_sentencepiece.json").write_text(out + "\n")
    print(f"tokens_sentencepiece.json: {len(texts)} cases, {len(out)} bytes")


def tiny_json():
    """Everything that a tokenizer.json may bring: normalizer, surrounding tokens, added tokens that
    take white space, must stand alone, or are found after normalisation."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(r"\p{N}{1,3}|\s+(?!\S)"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    core.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    core.train_from_iterator(SENTENCES[:30], trainer)
    core.add_special_tokens([AddedToken("<bos>", special=True), AddedToken("<eos>", special=True),
                             AddedToken("<mask>", special=True, lstrip=True),
                             AddedToken("<|end|>", special=True, rstrip=True)])
    core.add_tokens([AddedToken("<think>", normalized=False), AddedToken("word", single_word=True),
                     AddedToken("é!", normalized=True)])
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        special_tokens=[("<bos>", core.token_to_id("<bos>")), ("<eos>", core.token_to_id("<eos>"))])
    core.save(str(HERE / "tiny_tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    texts = ["", "a", "word", "sword", "word1", "a word.", "é!", "e\u0301!", "<think>x</think>", "a  <mask> b",
             "x<|end|>\n\n y", "<bos>hi<eos>", "<mask>", " <mask><|end|> ", "1234567", "a   b"]
    texts += SENTENCES
    lines = cases(tokenizer, [t.encode() for t in texts], add_special_tokens=True)
    write_lines(HERE / "tokens_tiny_json.jsonl", lines)


if __name__ == "__main__":
    model = sys.argv[1] if len(sys.argv) > 1 else os.environ["HOLDFAST_MODEL"]
    default_model(model)
    sentencepiece()
    tiny_json()
