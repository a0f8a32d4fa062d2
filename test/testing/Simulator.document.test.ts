import { assert, describe, it } from "@effect/vitest"
import { Simulator } from "effect-periscope/testing"
import { crashes, fired, holds, remoteFaults, storeFaults, trials } from "./simulation.js"

describe("Simulator: a document", () => {
  it("keeps every promise over random crashes", { timeout: 300_000 }, async () => {
    const report = await holds(
      "document, random",
      Simulator.run({ mode: "document", subject: Simulator.document(), trials })
    )
    assert.strictEqual(report.trials, trials)
    assert.isAbove(report.crashes, 3 * trials)
    fired(report, [...storeFaults, ...crashes, ...remoteFaults])
  })

  // one run per point of the outside world at which a process can die
  it("keeps every promise for a crash at any point", { timeout: 300_000 }, async () => {
    const report = await holds(
      "document, every point",
      Simulator.exhaust({ mode: "document", subject: Simulator.document(), trials: 6 })
    )
    assert.isAbove(report.crashes, 100)
    // in each scenario the last run is the one that finds no further point
    assert.strictEqual(report.crashes, report.trials - 6)
    fired(
      report,
      crashes.filter((kind) => !kind.startsWith("crash: commit"))
    )
  })
})
