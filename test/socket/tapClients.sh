#!/usr/bin/env bash
# Installs the other clients of Tap, for the live test that compares and the bench, and the Node that they need, into
# .generated/tap-clients: no dependencies, since that Node weighs 120 MB.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .generated/tap-clients
node_package=$(node -p '`node-${process.platform}-${process.arch}`')
cat >.generated/tap-clients/package.json <<JSON
{
  "private": true,
  "dependencies": { "$node_package": "22.23.3", "@atproto/tap": "0.3.12", "@atcute/tap": "0.1.2", "ws": "8.23.0" }
}
JSON
npm install --prefix .generated/tap-clients --ignore-scripts --no-audit --no-fund --loglevel=error
