/**
 * Proves that a source is delivered as promised: it runs a watcher on a virtual clock against a world that changes, a store
 * and a source that fail, and crashes it, at every point or at random, thousands of times.
 *
 * The judge sees only what a consumer sees. It checks that nothing is lost (at rest the consumer knows the world), that
 * nothing comes again that all before it was committed with, that what comes again is the same and says so, that no key goes
 * back in time, and that a Removed was true. Everything follows from the seed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Change from "../core/Change.js"
import type { Source } from "../core/Source.js"
import type { Delivery } from "../core/Watcher.js"
import type { Chance } from "./chance.js"
import { quietly } from "./quietly.js"
import type { Fault, Reply } from "./ScriptedSource.js"
import * as ScriptedSource from "./ScriptedSource.js"
import type { Outcome, Stage, Subject, WatchOptions } from "./trial.js"
import { Trial } from "./trial.js"
import * as VirtualClock from "./VirtualClock.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Chance
} from "./chance.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Stage,
  /**
   * @category models
   * @since 0.1.0
   */
  Subject,
  /**
   * @category models
   * @since 0.1.0
   */
  WatchOptions
} from "./trial.js"

/**
 * What the source is, which decides what can be asked of it: one document, many keyed items, or a log that can be read again
 * (its rows in order, each an Added).
 *
 * @category models
 * @since 0.1.0
 */
export type Mode = "document" | "listing" | "log"

/**
 * What is simulated.
 *
 * - `subject`: makes, for each trial anew, a source and the world behind it.
 * - `seed`: everything follows from it [1]. `trials`: how many [1000], from `firstTrial` [0].
 * - `crashes`: the most of one trial [8]. `changes`: how often the world changes in one trial [6].
 * - `faults`: how probable each fault is at each opportunity [0.05].
 * - `watch`: options of the watcher; those left out are drawn by lot.
 * - `handler`: what else is to run for each change.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<A, E> {
  readonly mode: Mode
  readonly subject: (stage: Stage) => Subject<A, E>
  readonly seed?: number | undefined
  readonly trials?: number | undefined
  readonly firstTrial?: number | undefined
  readonly crashes?: number | undefined
  readonly changes?: number | undefined
  readonly faults?: number | undefined
  readonly watch?: WatchOptions | undefined
  readonly handler?: ((change: Change.Change<A>, delivery: Delivery) => Effect.Effect<void>) | undefined
}

/**
 * What was simulated. `fired` counts the faults by kind, and the crashes by the point at which they struck.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly trials: number
  readonly points: number
  readonly crashes: number
  readonly polls: number
  readonly delivered: number
  readonly redelivered: number
  readonly fired: ReadonlyMap<string, number>
}

/**
 * A broken promise: which one, in which trial of which seed, and what had happened until then. `crashAt` is the point of the
 * crash, if it was not at random.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Change, Source } from "effect-periscope"
 * import { Simulator } from "effect-periscope/testing"
 *
 * // says Added of every value, also of one that replaces another
 * const forgetful = () => {
 *   const world = new Map<string, number>()
 *   const poll = (before: number) =>
 *     Effect.sync(() => {
 *       const now = world.get("a") ?? 0
 *       return { state: now, changes: now === before ? [] : [Change.added("a", now)] }
 *     })
 *   return {
 *     source: Source.make({ name: "forgetful", state: Schema.Number, item: Schema.Number, initial: 0, poll }),
 *     change: () => void world.set("a", (world.get("a") ?? 0) + 1),
 *     current: () => world
 *   }
 * }
 *
 * const violation = await Effect.runPromise(Effect.flip(Simulator.run({ mode: "document", subject: forgetful })))
 * violation instanceof Simulator.Violation && violation.rule // => "forgetful:2:0: Added of a, which was known"
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class Violation extends Schema.TaggedError<Violation>("effect-periscope/Violation")("Violation", {
  rule: Schema.String,
  mode: Schema.String,
  seed: Schema.Number,
  trial: Schema.Number,
  crashAt: Schema.optional(Schema.Number),
  trace: Schema.Array(Schema.String)
}) {
  override get message(): string {
    const where = this.crashAt === undefined ? "" : `, crash at point ${this.crashAt}`
    return `${this.rule}\n(${this.mode}, seed ${this.seed}, trial ${this.trial}${where})\n${this.trace.join("\n")}`
  }
}

/** Adds up what trials did. */
class Sum {
  private trials = 0
  private readonly numbers = { points: 0, crashes: 0, polls: 0, delivered: 0, redelivered: 0 }
  private readonly fired = new Map<string, number>()

  add(outcome: Omit<Report, "trials">, trials = 1): void {
    this.trials += trials
    for (const name of ["points", "crashes", "polls", "delivered", "redelivered"] as const) {
      this.numbers[name] += outcome[name]
    }
    for (const [kind, count] of outcome.fired) this.fired.set(kind, (this.fired.get(kind) ?? 0) + count)
  }

  get report(): Report {
    return { trials: this.trials, ...this.numbers, fired: new Map([...this.fired].sort()) }
  }
}

const trialOf = <A, E>(
  options: Options<A, E>,
  trial: number,
  crashAt: number | undefined
): Effect.Effect<Outcome, Violation> => {
  const { mode, seed = 1 } = options
  const go = (isTraced: boolean): Effect.Effect<Outcome> =>
    Effect.suspend(() => {
      const { run } = new Trial<A, E>({
        subject: options.subject,
        mode,
        seed,
        trial,
        crashAt,
        isTraced,
        crashes: options.crashes ?? 8,
        changes: options.changes ?? 6,
        faults: options.faults ?? 0.05,
        watch: options.watch ?? {},
        handler: options.handler
      })
      return VirtualClock.run(run)
    })
  return Effect.flatMap(go(false), (outcome) =>
    outcome.violation === undefined
      ? Effect.succeed(outcome)
      : // the same once more, this time written down
        Effect.flatMap(
          go(true),
          ({ trace, violation = `${outcome.violation}; not the second time: something in it is not of the seed` }) =>
            new Violation({ rule: violation, mode, seed, trial, trace, ...(crashAt === undefined ? {} : { crashAt }) })
        )
  )
}

/**
 * Runs trials with crashes at random, several each, until one breaks a promise.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Simulator } from "effect-periscope/testing"
 *
 * const proof = Simulator.run({ mode: "listing", subject: Simulator.listing(), trials: 20, seed: 7 })
 *
 * const report = await Effect.runPromise(proof)
 * report.trials // => 20
 * report.crashes > 20 // => true
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const run = <A, E>(options: Options<A, E>): Effect.Effect<Report, Violation> =>
  Effect.gen(function* () {
    const sum = new Sum()
    const { firstTrial = 0, trials = 1000 } = options
    for (let trial = firstTrial; trial < firstTrial + trials; trial++) {
      sum.add(yield* trialOf(options, trial, undefined))
    }
    return sum.report
  }).pipe(quietly)

/**
 * Runs each trial once for every point at which it can crash: around each poll, page, save, hand-out, handler and commit.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Simulator } from "effect-periscope/testing"
 *
 * const proof = Simulator.exhaust({ mode: "document", subject: Simulator.document(), trials: 1 })
 *
 * const report = await Effect.runPromise(proof)
 * // one run a point, and a last one that reaches none
 * report.crashes === report.trials - 1 // => true
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const exhaust = <A, E>(options: Options<A, E>): Effect.Effect<Report, Violation> =>
  Effect.gen(function* () {
    const sum = new Sum()
    const { firstTrial = 0, trials = 10 } = options
    for (let trial = firstTrial; trial < firstTrial + trials; trial++) {
      for (let crashAt = 1; ; crashAt++) {
        const outcome = yield* trialOf(options, trial, crashAt)
        sum.add(outcome)
        if (outcome.crashes === 0) break
      }
    }
    return sum.report
  }).pipe(quietly)

/**
 * Checks a source of your own: crashes a few trials at every point, then many at random.
 *
 * **When to use** In the tests of a source that you wrote, with any test runner: it fails with a {@link Violation} that says
 * which promise was broken, by which trial of which seed, and all that had happened.
 *
 * **Details** `subject` makes the source and the world behind it anew for each trial. `change` changes the world in one step,
 * to values that it never had; `current` is what a consumer has to know in the end, by key (of a log all rows, in order).
 * Faults of your own go through `stage.fault`, which counts them; a fatal error is announced with `stage.mayEnd`. Where the
 * process may die within a poll is said with `stage.point`.
 *
 * **Gotchas** Time is virtual: everything behind the source has to be in memory.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Source } from "effect-periscope"
 * import { Simulator } from "effect-periscope/testing"
 *
 * const Seat = Schema.Struct({ id: Schema.String, price: Schema.Number })
 *
 * const seats = (stage: Simulator.Stage) => {
 *   const world = new Map<string, typeof Seat.Type>()
 *   let prices = 0
 *   return {
 *     source: Source.fromListing({
 *       name: "seats",
 *       item: Seat,
 *       list: () =>
 *         Effect.suspend(() =>
 *           stage.fault("listing fails", 0.1) ? Effect.fail("down") : Effect.succeed({ items: [...world.values()] })
 *         ),
 *       key: (seat) => seat.id
 *     }),
 *     change: (chance: Simulator.Chance) => {
 *       const id = `seat ${chance.below(5)}`
 *       if (chance.happens(0.3)) world.delete(id)
 *       else world.set(id, { id, price: ++prices })
 *     },
 *     current: () => world
 *   }
 * }
 *
 * const report = await Effect.runPromise(Simulator.check({ mode: "listing", subject: seats, trials: 20 }))
 * report.fired.has("listing fails") // => true
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const check = <A, E>(
  options: Options<A, E> & {
    /** How many trials are run once for every point [3]. */
    readonly exhausted?: number | undefined
  }
): Effect.Effect<Report, Violation> =>
  Effect.gen(function* () {
    const sum = new Sum()
    for (const part of [exhaust({ ...options, trials: options.exhausted ?? 3 }), run(options)]) {
      const report = yield* part
      sum.add(report, report.trials)
    }
    return sum.report
  })

const always: ReadonlyArray<Fault> = ["fail", "fatal", "defect", "hang", "slow"]

/** Draws the fault of a call, if any; of those in `kinds` that fit it. */
const scripted =
  (stage: Stage, kinds: (first: boolean) => ReadonlyArray<Fault>) =>
  (call: ScriptedSource.Call): Reply => {
    const kind = stage.chance.pick(kinds(call.first))
    // one draw a call, so that rates do not depend on how many kinds there are
    if (!stage.fault(kind, kind === "fatal" ? stage.faults : 4 * stage.faults)) return "answer"
    if (kind === "fatal") stage.mayEnd("fatal")
    return kind
  }

type Make = (remote: ScriptedSource.Remote<number>, stage: Stage) => Source<number, unknown>

/** A point within each walk, behind every page. */
const withPoints = (remote: ScriptedSource.Remote<number>, stage: Stage): ScriptedSource.Remote<number> => ({
  ...remote,
  fetch: (key, etag) => Effect.tap(remote.fetch(key, etag), stage.point("answered")),
  page: (after) => Effect.tap(remote.page(after), stage.point("answered")),
  read: (after, limit) => Effect.tap(remote.read(after, limit), stage.point("answered"))
})

/**
 * Makes the subject of a document that comes, changes and goes, with all faults of `ScriptedSource`. `make` puts another
 * source over the same remote.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Source } from "effect-periscope"
 * import { ScriptedSource, Simulator } from "effect-periscope/testing"
 *
 * // an operator of your own over the document that the simulator changes
 * const subject = Simulator.document((remote) =>
 *   Source.map(ScriptedSource.document(remote, { key: "document", item: Schema.Number }), (value) => value)
 * )
 *
 * const { trials } = await Effect.runPromise(Simulator.run({ mode: "document", subject, trials: 20 }))
 * trials // => 20
 * ```
 *
 * @category subjects
 * @since 0.1.0
 */
export const document =
  (
    make: Make = (remote) => ScriptedSource.document(remote, { key: "document", item: Schema.Number })
  ): ((stage: Stage) => Subject<number, unknown>) =>
  (stage) => {
    const world = ScriptedSource.makeWorld<number>()
    const kinds: ReadonlyArray<Fault> = [...always, "truncated"]
    const remote = ScriptedSource.remote(world, { replies: scripted(stage, () => kinds) })
    return {
      source: make(withPoints(remote, stage), stage),
      change: (chance) =>
        chance.happens(0.25) && world.entries.size > 0
          ? world.remove("document")
          : world.set("document", world.revision + 1),
      current: () => world.entries
    }
  }

const keyOf = (n: number): string => `key-${String(n).padStart(2, "0")}`

/** Removes many keys at once, so that the guard has something to hold back. */
const removeMany = (world: ScriptedSource.World<number>, chance: Chance): void => {
  const kept = chance.happens(0.3) ? 0 : 0.6
  for (const key of [...world.entries.keys()]) if (!chance.happens(kept)) world.remove(key)
}

/**
 * Makes the subject of a paged listing whose items come, change and go, singly and many at a time, with all faults of
 * `ScriptedSource`: also a listing that looks empty, in at most two walks in a row.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { ScriptedSource, Simulator } from "effect-periscope/testing"
 *
 * const subject = Simulator.listing((remote) =>
 *   ScriptedSource.listing(remote, { item: Schema.Number, removalGuard: { maxRemovedRatio: 0.5 } })
 * )
 *
 * const { trials } = await Effect.runPromise(Simulator.run({ mode: "listing", subject, trials: 20 }))
 * trials // => 20
 * ```
 *
 * @category subjects
 * @since 0.1.0
 */
export const listing =
  (
    make: Make = (remote) => ScriptedSource.listing(remote, { item: Schema.Number })
  ): ((stage: Stage) => Subject<number, unknown>) =>
  (stage) => {
    const world = ScriptedSource.makeWorld<number>()
    let emptyInARow = 0
    const first: ReadonlyArray<Fault> = [...always, "reordered", "duplicated"]
    const later: ReadonlyArray<Fault> = [...first, "truncated", "staleToken"]
    const faulty = scripted(stage, (isFirst) => (isFirst ? first : later))
    const remote = ScriptedSource.remote(world, {
      replies: (call) => {
        // an empty listing at first sight is a world without items; more in a row than the guard waits for are believed
        if (call.first && stage.hasBaseline() && emptyInARow < 2 && stage.fault("empty", stage.faults)) {
          emptyInARow++
          return "empty"
        }
        return faulty(call)
      }
    })
    let from = 0
    const page = (after?: string) =>
      Effect.suspend(() => {
        const at = stage.revision()
        return Effect.tap(remote.page(after), ({ items, next }) => {
          if (after === undefined) from = at
          if (next !== undefined || (after === undefined && items.length === 0 && world.entries.size > 0)) return
          emptyInARow = 0
          stage.observed(from, at)
        })
      })
    return {
      source: make(withPoints({ ...remote, page }, stage), stage),
      change: (chance) => {
        const key = keyOf(chance.below(16))
        const kind = chance.next()
        if (kind < 0.15) removeMany(world, chance)
        else if (kind < 0.35) world.remove(key)
        else if (kind < 0.5) for (let n = 0; n < 6; n++) world.set(keyOf(chance.below(16)), world.revision + 1)
        else world.set(key, world.revision + 1)
      },
      current: () => world.entries
    }
  }

/**
 * Makes the subject of a log that grows, with all faults of `ScriptedSource`.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Simulator } from "effect-periscope/testing"
 *
 * const { trials } = await Effect.runPromise(Simulator.run({ mode: "log", subject: Simulator.log(), trials: 20 }))
 * trials // => 20
 * ```
 *
 * @category subjects
 * @since 0.1.0
 */
export const log =
  (
    make: Make = (remote) => ScriptedSource.log(remote, { item: Schema.Number, limit: 4 })
  ): ((stage: Stage) => Subject<number, unknown>) =>
  (stage) => {
    const world = ScriptedSource.makeWorld<number>()
    const kinds: ReadonlyArray<Fault> = [...always, "truncated"]
    const remote = ScriptedSource.remote(world, { replies: scripted(stage, () => kinds) })
    return {
      source: make(withPoints(remote, stage), stage),
      change: (chance) => {
        for (let rows = chance.below(4); rows >= 0; rows--) world.append(world.revision + 1)
      },
      current: () => world.entries
    }
  }
