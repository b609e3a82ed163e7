"""Writes the golden files that the C++ tests read. The layout is told in README.md beside this."""

import struct

import numpy as np

LOGITS_MAGIC = b"HFLOGIT1"
PERPLEXITY_MAGIC = b"HFPPLEX1"


def write_logits(path, tokens, logits, top):
    """logits: float32 [positions][vocabulary]. top: values kept a position; the vocabulary's size
    means all of them, in order of id and without ids."""
    logits = np.ascontiguousarray(logits, dtype="<f4")
    count, vocabulary = logits.shape
    assert len(tokens) == count and np.isfinite(logits).all() and 0 < top <= vocabulary
    wide = logits.astype(np.float64)
    peak = wide.max(axis=1, keepdims=True)
    lse = (peak + np.log(np.exp(wide - peak).sum(axis=1, keepdims=True)))[:, 0]
    with open(path, "wb") as out:
        out.write(LOGITS_MAGIC)
        out.write(struct.pack("<4I", count, vocabulary, top, 0))
        out.write(np.asarray(tokens, dtype="<i4").tobytes())
        out.write(logits.argmax(axis=1).astype("<i4").tobytes())  # the lowest id among equals
        out.write(logits.min(axis=1).tobytes())
        out.write(logits.max(axis=1).tobytes())
        out.write(lse.astype("<f4").tobytes())
        if top == vocabulary:
            out.write(logits.tobytes())
            return
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :top].astype("<i4")
        out.write(np.ascontiguousarray(ids).tobytes())
        out.write(np.ascontiguousarray(np.take_along_axis(logits, ids, axis=1)).tobytes())


def write_perplexity(path, windows, nll):
    """windows: token ids [windows][tokens]; nll: for each window the sum over its tokens but the
    first of -ln p(token | those before it in the window)."""
    windows = np.asarray(windows, dtype="<i4")
    with open(path, "wb") as out:
        out.write(PERPLEXITY_MAGIC)
        out.write(struct.pack("<2I", *windows.shape))
        out.write(windows.tobytes())
        out.write(np.asarray(nll, dtype="<f8").tobytes())
