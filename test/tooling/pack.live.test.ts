import { assert, describe, it } from "vitest"
import { execFileSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))

const program = `
import { NodeContext } from "@effect/platform-node"
import { Effect, Layer, Schedule } from "effect"
import { Checkpoints, Source, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { VirtualClock } from "effect-periscope/testing"

const checkpoints = Checkpoints.layerFileSystem({ directory: "./state" }).pipe(Layer.provide(NodeContext.layer))
const unreachable = HttpSource.make({ url: "http://127.0.0.1:9/" })

const found = await Effect.runPromise(
  Effect.gen(function* () {
    const memory = yield* Source.memory()
    yield* memory.set("a", 1)
    const first = yield* Watcher.once(memory, { checkpoint: "memory" })
    const second = yield* Watcher.once(memory, { checkpoint: "memory" })
    const error = yield* Effect.flip(Watcher.once(unreachable))
    const month = yield* VirtualClock.run(Effect.repeat(Effect.void, Schedule.spaced("1 hour").pipe(Schedule.upTo("30 days"))))
    return [first.length, second.length, error.reason, typeof month]
  }).pipe(Effect.provide([checkpoints, NodeClient.layer()]))
)
console.log(JSON.stringify(found))
`

describe("the packed package", () => {
  it("works in an empty folder, installed by the README's own line", { timeout: 180_000 }, () => {
    const folder = mkdtempSync(join(tmpdir(), "periscope-pack-"))
    try {
      const run = (command: string, ...args: ReadonlyArray<string>): string =>
        execFileSync(command, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
      execFileSync("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: root, stdio: "ignore" })
      const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"))!
      const line = /npm install effect-periscope ([^`]*?)\n```/.exec(readFileSync(join(root, "README.md"), "utf8"))![1]!
      const packages = line.split(/[\s\\]+/).filter((name) => name !== "")
      assert.isAbove(packages.length, 2)
      writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }')
      run("npm", "install", "--no-audit", "--no-fund", `./${tarball}`, ...packages)
      writeFileSync(join(folder, "program.js"), program)
      assert.strictEqual(run("node", "program.js").trim(), '[1,0,"Network","number"]')
      assert.match(run("npx", "periscope", "--version"), /^\d+\.\d+\.\d+\n$/)
      assert.strictEqual(run("npm", "ls", "effect", "--parseable", "--all").trim().split("\n").length, 1)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
