import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import SummaryReporter from "./tooling/reporter.js"

const root = fileURLToPath(new URL("..", import.meta.url))

export default defineConfig({
  root,
  resolve: {
    // The package by its own name, read from src: no build before a unit test.
    alias: [
      { find: /^effect-periscope$/, replacement: `${root}src/core/index.ts` },
      { find: /^effect-periscope\/([a-z]+)$/, replacement: `${root}src/$1/index.ts` },
      { find: /^effect-periscope\/([a-z]+\/[A-Z]\w*)$/, replacement: `${root}src/$1.ts` },
      { find: /^effect-periscope\/([A-Z]\w*)$/, replacement: `${root}src/core/$1.ts` }
    ]
  },
  test: {
    include: ["test/**/*.test.ts", "scratchpad/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    minWorkers: 1,
    testTimeout: 20_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    reporters: ["default", new SummaryReporter()]
  }
})
