#!/usr/bin/env bash
set -euo pipefail
python -m pip install --constraint requirements/pins.txt --requirement requirements/core.txt
