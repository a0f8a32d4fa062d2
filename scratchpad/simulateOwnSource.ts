/**
 * The simulator over a source of one's own: a thermometer that reports its reading. The second version of it remembers a
 * reading that it does not report, and is found out.
 */
import { Console, Effect, Schema } from "effect"
import { Change, Source } from "effect-periscope"
import { Simulator } from "effect-periscope/testing"

const thermometer =
  (isCareless: boolean) =>
  (stage: Simulator.Stage): Simulator.Subject<number, string> => {
    let degrees = 20
    const source = Source.make({
      name: "thermometer",
      state: Schema.NullOr(Schema.Number),
      item: Schema.Number,
      initial: null,
      poll: (before) =>
        Effect.suspend(() => {
          if (stage.fault("sensor fails", 0.1)) return Effect.fail("no reading")
          const same = degrees === before || (isCareless && before !== null && Math.abs(degrees - before) < 1)
          return Effect.succeed({ state: degrees, changes: same ? [] : [change(before, degrees)] })
        })
    })
    return {
      source,
      change: (chance) => void (degrees = 20 + chance.below(100) / 10),
      current: () => new Map([["reading", degrees]])
    }
  }

const change = (before: number | null, now: number): Change.Change<number> =>
  before === null ? Change.added("reading", now) : Change.modified("reading", now)

const program = Effect.gen(function* () {
  const report = yield* Simulator.run({ mode: "document", subject: thermometer(false), trials: 200 })
  yield* Console.log(`kept every promise in ${report.trials} trials with ${report.crashes} crashes`)
  const violation = yield* Effect.flip(Simulator.run({ mode: "document", subject: thermometer(true), trials: 200 }))
  yield* Console.log(`careless: ${violation.rule} (trial ${violation.trial})`)
})

await Effect.runPromise(program)
