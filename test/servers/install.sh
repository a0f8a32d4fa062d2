#!/usr/bin/env bash
# Installs the servers of live tests that come from npm into .generated/servers: no dependencies, since they weigh 400 MB.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .generated/servers
cat >.generated/servers/package.json <<'JSON'
{
  "private": true,
  "dependencies": { "azurite": "3.35.0", "firebase-tools": "15.34.2" },
  "overrides": { "msgpackr-extract": "3.0.4", "rollup": "4.67.4" }
}
JSON
npm install --prefix .generated/servers --ignore-scripts --no-audit --no-fund --loglevel=error
