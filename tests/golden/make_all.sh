#!/bin/sh
# Makes every golden file anew; see README.md beside this. Needs HOLDFAST_MODEL and the oracle's
# Python in PYTHON.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:?"wanted: PYTHON, the oracle's interpreter (see README.md)"}
"$python" make_dequant_golden.py
"$python" make_token_golden.py
"$python" make_chat_golden.py
"$python" make_tiny_models.py
"$python" make_logits_golden.py "${HOLDFAST_MODEL:?"wanted: HOLDFAST_MODEL, the default model"}"
