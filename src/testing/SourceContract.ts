/**
 * What every source has to keep, as one test suite for any test runner, and as an effect.
 *
 * It polls a source of yours step by step on a virtual clock, in worlds that change, with faults and interruptions, and says
 * which law is broken, what was expected, what came, and what to do about it. Everything follows from the seed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { Runner } from "./CheckpointsContract.js"
import { quietly } from "./quietly.js"
import * as Simulator from "./Simulator.js"
import type { Law, Subject } from "./sourceBench.js"
import { Bench, laws, Violation } from "./sourceBench.js"
import { programs } from "./sourceLaws.js"
import type { LawOptions, Tally } from "./sourcePrograms.js"
import * as VirtualClock from "./VirtualClock.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Runner
} from "./CheckpointsContract.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Law,
  /**
   * @category models
   * @since 0.1.0
   */
  Subject
} from "./sourceBench.js"
export {
  /**
   * @category laws
   * @since 0.1.0
   */
  laws,
  /**
   * @category errors
   * @since 0.1.0
   */
  Violation
} from "./sourceBench.js"

/**
 * What is checked.
 *
 * - `mode`: what the source is; decides what can be asked of it.
 * - `subject`: makes, for each law and world anew, a source and the world behind it, as for {@link Simulator.check}.
 * - `secrets`: texts, planted in urls, headers or credentials, that no error, name or saved state may hold [none].
 * - `faults`: whether the subject has faults, through `stage.fault` [true]; without, no poll ever fails in the check.
 * - `rounds`: how often each world is looked at, each time after one change, a few or, once in six, dozens [12]. `maxPolls`: the most of one observation [1000].
 * - `trials`: simulated watches with crashes at random [20]. One more is run once for each point at which it can crash, so
 *   that the report counts more: `trials: 300` and a watch of 80 points are 381.
 * - `seed`: everything follows from it [1].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<A, E> {
  readonly mode: Simulator.Mode
  readonly subject: (stage: Simulator.Stage) => Subject<A, E>
  readonly secrets?: ReadonlyArray<string> | undefined
  readonly faults?: boolean | undefined
  readonly rounds?: number | undefined
  readonly maxPolls?: number | undefined
  readonly trials?: number | undefined
  readonly seed?: number | undefined
}

/**
 * What was checked: polls, faults that struck by kind, and what the simulator did.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly laws: ReadonlyArray<Law>
  readonly polls: number
  readonly fired: ReadonlyMap<string, number>
  readonly delivery: Simulator.Report
}

const settingsOf = <A, E>(options: Options<A, E>): LawOptions<A, E> => ({
  mode: options.mode,
  subject: options.subject,
  seed: options.seed ?? 1,
  rounds: options.rounds ?? 12,
  maxPolls: options.maxPolls ?? 1000,
  secrets: options.secrets ?? [],
  hasFaults: options.faults ?? true
})

const simulated = <A, E>(options: Options<A, E>): Effect.Effect<Simulator.Report, Violation> => {
  const { mode, seed = 1, subject, trials = 20 } = options
  return Effect.mapError(
    Simulator.check({ mode, subject, seed, trials, exhausted: 1 }),
    ({ crashAt, rule, trial }) =>
      new Violation({
        source: new Bench(settingsOf(options), 0).source.name,
        law: "delivery",
        expected: "every promise of delivery, crash after crash",
        found: `${rule} (trial ${trial}${crashAt === undefined ? "" : `, crash at point ${crashAt}`})`,
        advice: `See all that had happened: Simulator.${crashAt === undefined ? "run" : "exhaust"}({ mode, subject, seed: ${seed}, firstTrial: ${trial}, trials: 1 }).`
      })
  )
}

type Stepwise = Exclude<Law, "delivery">

const proving = <A, E>(law: Stepwise, options: Options<A, E>, tally: Tally) =>
  quietly(VirtualClock.run(programs[law](settingsOf(options), tally)))

const isStepwise = (law: Law): law is Stepwise => law !== "delivery"

/** The laws that are checked: without secrets there is nothing to find. */
const lawsFor = ({ secrets = [] }: { readonly secrets?: ReadonlyArray<string> | undefined }): ReadonlyArray<Law> =>
  (Object.keys(laws) as ReadonlyArray<Law>).filter((law) => law !== "secrets" || secrets.length > 0)

/** A law that nothing can be said of, as another one that it builds on is broken. */
class NotReached extends Schema.TaggedError<NotReached>("effect-periscope/SourceContractNotReached")(
  "SourceContractNotReached",
  { source: Schema.String, law: Schema.String, advice: Schema.String }
) {
  override get message(): string {
    return `not reached: ${this.source || "(a source without a name)"} breaks "${this.law}" first; see there
  to do:    ${this.advice}`
  }
}

/** What a law takes for granted: where that is broken, it would report the same, and give the wrong advice. */
const basics = (law: Law): ReadonlyArray<Stepwise> => {
  switch (law) {
    case "name":
    case "timeout":
      return []
    case "ends":
    case "keys":
    case "kinds":
    case "current":
    case "complete":
    case "unchanged":
    case "shared":
      return ["current"]
    case "repeatable":
    case "items":
    case "replay":
      return ["current", "shared"]
    case "state":
    case "rewind":
    case "failure":
    case "interruption":
      return ["current", "shared", "repeatable"]
    case "secrets":
      return ["current", "shared", "repeatable", "failure"]
    // crashes prove nothing new of what is broken without them
    case "delivery":
      return ["current", "complete", "shared", "repeatable", "items", "state", "replay", "rewind", "failure"]
  }
}

/** Long enough for a slow machine: a law that takes its time is not a broken one. */
const timeoutMillis = 300_000

/**
 * Checks a source of your own, law by law; fails with the first {@link Violation}.
 *
 * **When to use** In the tests of a source that you wrote, with any test runner or none. With vitest, jest or node:test,
 * {@link suite} gives each law a test of its own.
 *
 * **Details** A law that is broken by chance only is tried on several worlds, and every state, page and step in them. The
 * last law runs {@link Simulator.check}. A subject with `open` shows what polls hold open, so that one that leaks is found.
 *
 * **Gotchas** Time is virtual: everything behind the source has to be in memory. A server that forgets, such as one that
 * answers 410 to an old revision, is to forget after a few changes here, or that path may never be taken. What `change` does to the world has to give
 * values that it never had. A source over `HttpClient` takes a `ScriptedHttpClient`, by `Source.provideContext`.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Source } from "effect-periscope"
 * import { SourceContract } from "effect-periscope/testing"
 *
 * const Seat = Schema.Struct({ id: Schema.String, price: Schema.Number })
 *
 * const proof = SourceContract.check({
 *   mode: "listing",
 *   trials: 5,
 *   subject: (stage) => {
 *     const world = new Map<string, typeof Seat.Type>()
 *     let prices = 0
 *     return {
 *       source: Source.fromListing({
 *         name: "seats",
 *         item: Seat,
 *         list: () =>
 *           Effect.suspend(() =>
 *             stage.fault("listing fails", 0.1) ? Effect.fail("down") : Effect.succeed({ items: [...world.values()] })
 *           ),
 *         key: (seat) => seat.id
 *       }),
 *       change: (chance) => {
 *         const id = `seat ${chance.below(5)}`
 *         if (chance.happens(0.3)) world.delete(id)
 *         else world.set(id, { id, price: ++prices })
 *       },
 *       current: () => world
 *     }
 *   }
 * })
 *
 * const report = await Effect.runPromise(proof) // a Violation, if it broke a law
 * report.laws.length // => 17
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const check = <A, E>(options: Options<A, E>): Effect.Effect<Report, Violation> =>
  Effect.gen(function* () {
    const tally: Tally = { polls: 0, fired: new Map() }
    const done = new Set<unknown>()
    const checked = lawsFor(options)
    for (const law of checked.filter(isStepwise)) {
      if (done.has(programs[law])) continue
      done.add(programs[law])
      yield* proving(law, options, tally)
    }
    const delivery = yield* simulated(options)
    return { laws: checked, polls: tally.polls, fired: tally.fired, delivery }
  })

/**
 * Declares the tests of one source, one a law.
 *
 * **Details** Where a law is broken that others build on, those say that they were not reached, and name it. Each test may
 * take five minutes, in place of the default of vitest and jest; node:test knows no limit unless it is given one.
 *
 * **Example**
 * ```ts
 * import { Simulator, SourceContract } from "effect-periscope/testing"
 * import { describe, it } from "vitest"
 *
 * SourceContract.suite({ describe, it }, { name: "a listing", mode: "listing", subject: Simulator.listing() })
 * ```
 *
 * @category tests
 * @since 0.1.0
 */
export const suite = <A, E>({ describe, it }: Runner, options: Options<A, E> & { readonly name: string }): void => {
  const proofs = new Map<unknown, Promise<Exit.Exit<void, Violation>>>()
  /** Proves a law; those that one program proves are proved once. */
  const prove = (law: Stepwise): Effect.Effect<void, Violation> =>
    Effect.suspend(() => {
      const program = programs[law]
      const proof = proofs.get(program) ?? Effect.runPromiseExit(proving(law, options, { polls: 0, fired: new Map() }))
      proofs.set(program, proof)
      return Effect.flatten(Effect.promise(() => proof))
    })
  /** Proves a law if what it builds on holds. */
  const test = (law: Law): Effect.Effect<void, Violation | NotReached> =>
    Effect.gen(function* () {
      for (const basic of basics(law)) {
        yield* Effect.mapError(prove(basic), (found) =>
          // who looks for this law is told all of it, where another one is a reference
          found.law === law ? found : new NotReached({ source: found.source, law: found.law, advice: found.advice })
        )
      }
      yield* isStepwise(law) ? prove(law) : simulated(options)
    })
  describe(`Source contract: ${options.name}`, () => {
    for (const law of lawsFor(options)) {
      it(`${law}: ${laws[law]}`, () => Effect.runPromise(test(law)), timeoutMillis)
    }
  })
}
