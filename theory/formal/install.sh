#!/usr/bin/env bash
# Installs Coq 8.16 and MathComp 1.15, as Debian 12 has them, after asking (--yes: without); elsewhere says how.
set -euo pipefail
packages=(coq libcoq-mathcomp-ssreflect libcoq-mathcomp-algebra)

if command -v coqc > /dev/null && [ -d "$(coqc -where)/user-contrib/mathcomp/algebra" ]; then
  exit 0
fi
if ! command -v apt-get > /dev/null; then
  echo "Coq and MathComp are not installed, and this is neither Debian nor Ubuntu. With opam:" >&2
  echo "  opam install coq.8.16.1 coq-mathcomp-ssreflect.1.15.0 coq-mathcomp-algebra.1.15.0" >&2
  exit 1
fi
install=(apt-get install -y --no-install-recommends "${packages[@]}")
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || { echo "as root: ${install[*]}" >&2; exit 1; }
  install=(sudo "${install[@]}")
fi
if [ "${1:-}" != --yes ]; then
  read -r -p "Run \`${install[*]}\` (1.2 GB)? [y/N] " answer || true
  [[ "${answer:-}" == [yY]* ]] || { echo "nothing is installed" >&2; exit 1; }
fi
"${install[@]}"
