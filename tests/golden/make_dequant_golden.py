"""Writes dequant/<TYPE>.bin: random blocks of each weight type and their values as the `gguf` package
dequantises them, the independent reference of kernels/dequantize.cc.

    python tests/golden/make_dequant_golden.py

File: u32 element count (little endian), the blocks' bytes, then the elements as f32. The bytes are
uniformly random, so f16 scales are large, tiny, infinite and NaN too; every third block has its f16
fields made subnormal, every third moderate, as in real files. Seeded: running it again changes
nothing.
"""

import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

ELEMENTS = 3072
OUT = pathlib.Path(__file__).resolve().parent / "dequant"

# Type: byte offsets of the f16 fields of a block.
TYPES = {
    T.F16: [], T.BF16: [], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}


def main():
    OUT.mkdir(exist_ok=True)
    for type_, half_fields in TYPES.items():
        rng = np.random.default_rng(int(type_))
        block_elements, block_bytes = GGML_QUANT_SIZES[type_]
        blocks = rng.integers(0, 256, (ELEMENTS // block_elements, block_bytes), dtype=np.uint8)
        for at in half_fields:
            n = len(blocks)
            subnormal = rng.integers(0, 1024, n) | (rng.integers(0, 2, n) << 15)
            moderate = rng.normal(0, 0.1, n).astype(np.float16).view(np.uint16)
            for residue, halves in ((1, subnormal), (2, moderate)):
                chosen = np.arange(n) % 3 == residue
                raw = halves.astype("<u2").view(np.uint8).reshape(n, 2)
                blocks[chosen, at:at + 2] = raw[chosen]
        with np.errstate(all="ignore"):
            values = dequantize(blocks.reshape(-1), type_).astype("<f4").reshape(-1)
        assert values.size == ELEMENTS, (type_, values.size)
        (OUT / f"{type_.name}.bin").write_bytes(
            np.uint32(ELEMENTS).tobytes() + blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
