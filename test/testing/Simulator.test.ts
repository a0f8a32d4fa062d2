import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Source } from "effect-periscope"
import { Simulator } from "effect-periscope/testing"
import { breaks, fired, holds } from "./simulation.js"

const Seat = Schema.Struct({ id: Schema.String, price: Schema.Number })
type Seat = typeof Seat.Type

/** A source of a user's own over a world of his own; `version` tells one state of a seat from another. */
const seats = (version: (seat: Seat) => string) => (stage: Simulator.Stage) => {
  const world = new Map<string, Seat>()
  let prices = 0
  return {
    source: Source.fromListing({
      name: "seats",
      item: Seat,
      list: () =>
        Effect.suspend(() =>
          stage.fault("listing fails", 0.1) ? Effect.fail("down") : Effect.succeed({ items: [...world.values()] })
        ),
      key: (seat) => seat.id,
      version
    }),
    change: (chance: Simulator.Chance) => {
      const id = `seat ${chance.below(5)}`
      if (chance.happens(0.3)) world.delete(id)
      else world.set(id, { id, price: ++prices })
    },
    current: () => world
  }
}

describe("Simulator", () => {
  it("check proves a source of a user's own", { timeout: 60_000 }, async () => {
    const subject = seats((seat) => String(seat.price))
    const report = await holds("a user's source", Simulator.check({ mode: "listing", subject, trials: 100 }))
    fired(report, ["listing fails", "crash: poll", "crash: save", "save unavailable"])
    assert.isAbove(report.trials, 200)
  })

  it("check finds what is wrong with one, and says how to see it again", { timeout: 60_000 }, async () => {
    // two prices in a hundred look the same
    const subject = seats((seat) => String(seat.price % 2))
    const { message, rule, seed, trial } = await breaks(
      "a version that is none",
      Simulator.check({ mode: "listing", subject, trials: 100, seed: 7 })
    )
    assert.match(rule, /^lost: seat \d is/)
    assert.strictEqual(seed, 7)
    assert.match(message, new RegExp(`seed 7, trial ${trial}`))
    assert.match(message, /polled: Added seat/)
  })

  it("the same seed gives the same report, another one another", { timeout: 60_000 }, async () => {
    const report = (seed: number) =>
      Effect.runPromise(Simulator.run({ mode: "listing", subject: Simulator.listing(), seed, trials: 30 }))
    const first = await report(1)
    assert.deepStrictEqual(await report(1), first)
    assert.notDeepEqual(await report(2), first)
  })

  it("a crash stops handlers where they are: nothing runs on, no finalizer either", { timeout: 60_000 }, async () => {
    let begun = 0
    let ended = 0
    let finalized = 0
    const handler = () =>
      Effect.gen(function* () {
        begun++
        yield* Effect.sleep("1 second")
        ended++
      }).pipe(Effect.onInterrupt(() => Effect.sync(() => void finalized++)))
    const subject = Simulator.document()
    const handled = await holds("handlers", Simulator.run({ mode: "document", subject, handler, trials: 30 }))
    assert.isAbove(handled.crashes, 0)
    assert.isAbove(begun, 0)
    assert.isAtLeast(begun, ended)
    // dead fibers are let go only after their trial was judged
    assert.isAtMost(finalized, begun - ended)
  })
})
