import { assert, describe, it } from "@effect/vitest"
import { Simulator } from "effect-periscope/testing"
import type { World } from "./changeLogs.js"
import { changeLog } from "./changeLogs.js"
import { crashes, fired, holds, storeFaults } from "./simulation.js"

const trials = 500

const always = [
  ...storeFaults,
  ...crashes,
  "crash: register",
  "crash: registered",
  ...["Unavailable", "hang", "slow", "defect", "partial"].map((fault) => `read ${fault}`),
  "register fails",
  "poison row",
  "hint lost",
  "hint doubled",
  "rollback"
]

const proof = (world: World, kinds: ReadonlyArray<string>) =>
  it(`L1 L5 L6 L7 L8 L9 ${world.order}, pruned ${world.prune}, random crashes`, { timeout: 300_000 }, async () => {
    const simulation = Simulator.run({ mode: "log", subject: changeLog(world), trials, changes: 12 })
    const report = await holds(`change log, ${world.order}, pruned ${world.prune}, random`, simulation)
    assert.isAbove(report.crashes, 3 * trials)
    fired(report, [...always, ...kinds])
  })

describe("Simulator: a change log", () => {
  for (const order of ["sqlite", "postgres"] as const) {
    const several = order === "postgres" ? ["several transactions open"] : []
    proof({ order, prune: "registered" }, ["pruned", ...several])
    proof({ order, prune: "past" }, ["read behind what was pruned", ...several])

    it(`keeps every promise for a crash at any point, ${order}`, { timeout: 300_000 }, async () => {
      const subject = changeLog({ order, prune: "registered" })
      const simulation = Simulator.exhaust({ mode: "log", subject, trials: 4, changes: 12 })
      const report = await holds(`change log, ${order}, every point`, simulation)
      assert.isAbove(report.crashes, 100)
      assert.strictEqual(report.crashes, report.trials - 4)
    })
  }
})
