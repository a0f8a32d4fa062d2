/**
 * How a law is tried: on several worlds that change, at each state of each observation.
 */
import * as Effect from "effect/Effect"
import type { BenchOptions, Violation } from "./sourceBench.js"
import { Bench, Observer } from "./sourceBench.js"

export interface LawOptions<A, E> extends BenchOptions<A, E> {
  readonly secrets: ReadonlyArray<string>
  readonly hasFaults: boolean
}

/** What a law did, beside finding nothing. */
export interface Tally {
  polls: number
  readonly fired: Map<string, number>
}

export type Program = <A, E>(options: LawOptions<A, E>, tally: Tally) => Effect.Effect<void, Violation>

export type OnBench = <A, E>(bench: Bench<A, E>, options: LawOptions<A, E>) => Effect.Effect<void, Violation>

/** How many worlds each law is tried on. */
export const worlds = 4

export const onBenches =
  (law: OnBench, count = worlds): Program =>
  (options, tally) =>
    Effect.gen(function* () {
      for (let trial = 0; trial < count; trial++) {
        const bench = new Bench(options, trial)
        yield* law(bench, options)
        tally.polls += bench.polls
        for (const [kind, times] of bench.fired) tally.fired.set(kind, (tally.fired.get(kind) ?? 0) + times)
      }
    })

/** Runs `use` at each state of each observation of a world that changes. */
export const atEachState =
  (
    use: <A, E>(
      bench: Bench<A, E>,
      observer: Observer<A, E>,
      options: LawOptions<A, E>
    ) => Effect.Effect<void, Violation>
  ): OnBench =>
  (bench, options) =>
    Effect.gen(function* () {
      const observer = new Observer(bench)
      for (let round = 0; round < bench.options.rounds; round++) {
        if (round > 0) bench.change()
        for (let polls = 0; polls < bench.options.maxPolls; polls++) {
          yield* use(bench, observer, options)
          const { result } = yield* observer.step()
          if (result.more !== true) break
        }
        bench.observed()
        yield* observer.settle()
      }
      yield* use(bench, observer, options)
    })

export const staleAdvice =
  "Report all that differs between the state and what is there, removals too, in the same poll that changes the state."

export const sharedAdvice =
  "Keep what a poll remembers in the state that it returns, not in a variable around the source."
