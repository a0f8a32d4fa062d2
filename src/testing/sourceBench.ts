/**
 * A source on the bench of its contract: polls it as an engine does, step by step, with a consumer that applies what comes
 * and knows which changes can be true.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Change from "../core/Change.js"
import type { Definition, Poll, Undelivered } from "../core/definition.js"
import type { Source } from "../core/Source.js"
import { within } from "../core/within.js"
import type { Chance } from "./chance.js"
import * as chances from "./chance.js"
import { textOfChange } from "./oracle.js"
import type { Mode } from "./oracle.js"
import type { Stage, Subject as SimulatedSubject } from "./trial.js"
import { valueText } from "./valueText.js"

/**
 * Names a law of the contract.
 *
 * @category models
 * @since 0.1.0
 */
export type Law = keyof typeof laws

/**
 * What every source has to keep, law by law.
 *
 * **Example**
 * ```ts
 * import { SourceContract } from "effect-periscope/testing"
 *
 * SourceContract.laws.unchanged // => "An unchanged world gives no changes, and the same state (===)."
 * ```
 *
 * @category laws
 * @since 0.1.0
 */
export const laws = {
  name: "The name is not empty, and holds neither user info nor a query.",
  timeout: "The timeout of a poll is finite, and a poll that takes longer fails with an error of the source.",
  ends: "An observation ends: at some poll there is no `more`.",
  keys: "A key is well-formed text, not empty, and in one batch at most once.",
  kinds:
    "Added is for a key that is not known, Modified (with another value) and Removed for one that is; `previous` is what came last. A log has Added only.",
  current: "Who applies all changes knows what is there.",
  complete: "The first observation is complete: a watch that is synced has handed out all that is there.",
  unchanged: "An unchanged world gives no changes, and the same state (===).",
  shared: "Two watchers of one source do not disturb each other.",
  repeatable: "Two polls from one state give the same changes in the same order, as long as the world is the same.",
  items: "Changes survive their codec and JSON.",
  state: "The state survives its codec and JSON, and polling goes on from it as from the live one.",
  replay: "A source that replays gives, from behind any of its changes, the rest of them.",
  rewind: "After a rewind of lost changes, what is there under their keys is reported again.",
  failure:
    "A call that fails fails its poll, and a poll that fails, hangs or dies leaves the state usable: nothing is lost, and nothing is reported twice.",
  interruption: "A poll that is interrupted leaves no trace, and nothing running or open.",
  secrets: "No error, name or saved state holds a secret.",
  delivery:
    "Watched with a checkpoint and crashed at any point, it loses nothing and repeats only what was not committed."
} as const

/**
 * A broken law: which one, what was expected, what came, and what to do about it.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Change, Source } from "effect-periscope"
 * import { SourceContract } from "effect-periscope/testing"
 *
 * // keeps what it knows in a variable, so that a second watcher is told nothing
 * const careless = () => {
 *   const world = new Map([["a", 1]])
 *   let known = 0
 *   const poll = (before: number) =>
 *     Effect.sync(() => {
 *       const now = world.get("a") ?? 0
 *       const change = known === 0 ? Change.added("a", now) : Change.modified("a", now)
 *       const changes = now === known ? [] : [change]
 *       known = now
 *       return { state: changes.length === 0 ? before : now, changes }
 *     })
 *   return {
 *     source: Source.make({ name: "careless", state: Schema.Number, item: Schema.Number, initial: 0, poll }),
 *     change: () => void world.set("a", (world.get("a") ?? 0) + 1),
 *     current: () => world
 *   }
 * }
 *
 * const violation = await Effect.runPromise(Effect.flip(SourceContract.check({ mode: "document", subject: careless })))
 * violation instanceof SourceContract.Violation && violation.law // => "shared"
 * violation.advice // => "Keep what a poll remembers in the state that it returns, not in a variable around the source."
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class Violation extends Schema.TaggedError<Violation>("effect-periscope/SourceContractViolation")(
  "SourceContractViolation",
  {
    source: Schema.String,
    law: Schema.Literal(...(Object.keys(laws) as [Law, ...Array<Law>])),
    expected: Schema.String,
    found: Schema.String,
    advice: Schema.String
  }
) {
  override get message(): string {
    return `${this.source || "(a source without a name)"} breaks the law "${this.law}": ${laws[this.law]}
  expected: ${this.expected}
  found:    ${this.found}
  to do:    ${this.advice}`
  }
}

/**
 * A source and the world behind it, as the simulator takes them. `open`: how many things its polls hold open now, such as
 * connections or files; it has to be 0 between polls.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subject<A, E> extends SimulatedSubject<A, E> {
  readonly open?: (() => number) | undefined
}

export interface BenchOptions<A, E> {
  readonly mode: Mode
  readonly subject: (stage: Stage) => Subject<A, E>
  readonly seed: number
  readonly rounds: number
  readonly maxPolls: number
}

/** One poll, with its changes as they are delivered. */
export interface Found<A> {
  readonly result: Poll<unknown, unknown>
  /** The stored forms of `changes`. */
  readonly stored: ReadonlyArray<Change.Change<unknown>>
  readonly changes: ReadonlyArray<Change.Change<A>>
}

export const linesOf = (changes: ReadonlyArray<Change.Change<unknown>>): string =>
  changes.length === 0 ? "no changes" : changes.map(textOfChange).join("; ")

const longest = Duration.toMillis("1 day")

/** Counts who sleeps on a clock. */
const watchSleepers = (clock: Clock.Clock) => {
  let sleepers = 0
  const counting: Clock.Clock = {
    ...clock,
    sleep: (duration) =>
      Effect.acquireUseRelease(
        Effect.sync(() => void sleepers++),
        () => clock.sleep(duration),
        () => Effect.sync(() => void sleepers--)
      )
  }
  return { clock: counting, count: () => sleepers }
}

/** In as many rounds, one is a burst. */
const burstEvery = 6

/** A subject made anew, with all that a law does to it. */
export class Bench<A, E> {
  readonly chance: Chance
  /** What changes, and how much: each from its own seed, so that all laws see the same worlds, whatever their polls draw. */
  private readonly world: Chance
  private readonly sizes: Chance
  readonly subject: Subject<A, E>
  readonly source: Source<A, E>
  readonly fired = new Map<string, number>()
  /** Whether faults strike. */
  isArmed = false
  polls = 0
  private revision = 0
  private rounds = 0
  private burst = 0
  private hasObserved = false

  constructor(
    readonly options: BenchOptions<A, E>,
    readonly trial: number
  ) {
    const chance = (this.chance = chances.make(options.seed, trial))
    this.world = chances.make(chance.below(2 ** 31), trial)
    this.sizes = chances.make(chance.below(2 ** 31), trial)
    this.subject = options.subject({
      chance,
      faults: 0.05,
      fault: (kind) => {
        if (!this.isArmed || !chance.happens(0.5)) return false
        this.fired.set(kind, (this.fired.get(kind) ?? 0) + 1)
        return true
      },
      point: () => Effect.void,
      mayEnd: () => {},
      revision: () => this.revision,
      hasBaseline: () => this.hasObserved,
      observed: () => {}
    })
    this.source = this.subject.source
    // also a world that is empty at first
    if (trial % 4 !== 0) this.change(1 + this.sizes.below(6))
  }

  get definition(): Definition<A, E, never> {
    return this.source.definition
  }

  /** Changes the world, and gives how often. */
  change(times = this.size()): number {
    for (let n = 0; n < times; n++) {
      this.revision++
      this.subject.change(this.world)
    }
    return times
  }

  /** How much happens between two polls: most often one change or a few; once in a while more than a server remembers. */
  private size(): number {
    const { sizes } = this
    const round = this.rounds++ % burstEvery
    if (round === 0) this.burst = sizes.below(burstEvery)
    // a log keeps all of it, and each page is another state to be tried
    if (round === this.burst) return this.options.mode === "log" ? 6 + sizes.below(7) : 12 + sizes.below(25)
    return sizes.happens(0.6) ? 1 : 2 + sizes.below(3)
  }

  get current(): ReadonlyMap<string, string> {
    return new Map(Array.from(this.subject.current(), ([key, value]) => [key, valueText(value)]))
  }

  violation(law: Law, expected: string, found: string, advice: string): Violation {
    return new Violation({ source: this.source.name, law, expected, found, advice })
  }

  // ---------------------------------------------------------------- polls

  /** The effect of one poll, bounded by nothing. */
  observing(state: unknown): Effect.Effect<Found<A>, E> {
    const { change, poll } = this.definition
    return Effect.suspend(() => {
      this.polls++
      return Effect.flatMap(poll(state, { committed: state, watcher: this }), (result) =>
        Effect.map(
          Effect.forEach(result.changes, (stored: Change.Change<unknown>) =>
            change === undefined
              ? Effect.succeedSome([stored, stored as Change.Change<A>] as const)
              : Effect.map(
                  change(stored),
                  Option.map((delivered) => [stored, delivered] as const)
                )
          ),
          (all) => {
            const passed = all.flatMap(Option.toArray)
            return {
              result,
              stored: passed.map(([stored]) => stored),
              changes: passed.map(([, delivered]) => delivered)
            }
          }
        )
      )
    })
  }

  /** Polls once, within the source's own timeout. */
  attempt(state: unknown): Effect.Effect<Exit.Exit<Found<A>, E> | "timeout"> {
    const timeout = Duration.toMillis(this.definition.timeout)
    return Effect.map(within(this.observing(state), Math.min(timeout, longest)), (outcome) =>
      outcome === "cancelled" ? "timeout" : outcome
    )
  }

  /** Polls once where nothing goes wrong. */
  poll(state: unknown): Effect.Effect<Found<A>, Violation> {
    return Effect.flatMap(this.attempt(state), (outcome) => {
      if (outcome !== "timeout" && Exit.isSuccess(outcome)) return Effect.succeed(outcome.value)
      const found =
        outcome === "timeout" ? "no answer within its timeout" : `the failure ${Cause.pretty(outcome.cause)}`
      return this.violation(
        "complete",
        "a poll that succeeds, as nothing in the world goes wrong",
        found,
        "Let faults of the subject strike only where `stage.fault` says so; all behind it has to be in memory."
      )
    })
  }

  /** How many sleepers a poll leaves behind, however it ended. */
  leftovers<B>(use: Effect.Effect<B>): Effect.Effect<number> {
    return Effect.clockWith((clock) => {
      const { clock: counting, count } = watchSleepers(clock)
      // time moves only when nothing is left to run
      return Effect.map(Effect.zipRight(Effect.withClock(use, counting), Effect.sleep(1)), count)
    })
  }

  // ---------------------------------------------------------------- states

  /** The state as a restart finds it. */
  restarted(state: unknown): Effect.Effect<unknown, Violation> {
    const { restore, state: codec } = this.definition
    return Effect.gen(this, function* () {
      const text = yield* this.saved(state)
      const decoded = yield* Effect.try(() => {
        const { blocks, head } = JSON.parse(text) as { head: unknown; blocks: ReadonlyArray<ReadonlyArray<number>> }
        return restore(
          codec.join(
            Schema.decodeUnknownSync(codec.head)(head),
            blocks.map((bytes) => Uint8Array.from(bytes))
          )
        )
      }).pipe(Effect.mapError(({ error }) => this.unreadable(String(error))))
      // a state that cannot be saved again is one that was not read as it was written
      const again = yield* this.saved(decoded)
      if (again !== text) {
        return yield* this.violation("state", text, again, "Give `state` a codec that decodes what it encodes.")
      }
      return decoded
    })
  }

  private unreadable(why: string): Violation {
    return this.violation(
      "state",
      "a state that its codec encodes to JSON, and decodes from it",
      why,
      "Give `state` a codec that decodes what it encodes; a restart has nothing else."
    )
  }

  /** What a checkpoint would hold of a state. */
  saved(state: unknown): Effect.Effect<string, Violation> {
    const { durable, state: codec } = this.definition
    return Effect.try(() => {
      const { blocks, head } = codec.split(durable(state))
      return JSON.stringify({
        head: Schema.encodeSync(codec.head)(head),
        blocks: blocks.map((bytes) => Array.from(bytes))
      })
    }).pipe(Effect.mapError(({ error }) => this.unreadable(String(error))))
  }

  observed(): void {
    this.hasObserved = true
  }
}

const isWellFormed = (key: unknown): boolean => typeof key === "string" && key !== "" && !/\p{Surrogate}/u.test(key)

/** One watcher of a source: its state, and what its consumer knows. */
export class Observer<A, E> {
  readonly view = new Map<string, string>()
  /** By delivered key: the last change, as it was stored. */
  readonly last = new Map<string, Undelivered>()
  private polls = 0

  constructor(
    readonly bench: Bench<A, E>,
    public state: unknown = bench.definition.initial,
    /** Whether the consumer knows all that the state knows. */
    private readonly isInformed = true
  ) {}

  /** A watcher that goes on from a state, with a consumer that knows the same. */
  branch(state: unknown, isInformed = this.isInformed): Observer<A, E> {
    const other = new Observer(this.bench, state, isInformed)
    for (const [key, text] of this.view) other.view.set(key, text)
    return other
  }

  /** Polls once; gives whether that completes the observation. */
  step(): Effect.Effect<Found<A>, Violation> {
    return Effect.tap(this.bench.poll(this.state), (found) => this.accept(found))
  }

  /** Takes what a poll found as an engine does. */
  accept({ changes, result, stored }: Found<A>): Effect.Effect<void, Violation> {
    return Effect.gen(this, function* () {
      yield* this.wellFormed(changes)
      for (const [index, change] of changes.entries()) {
        if (this.isInformed) yield* this.possible(change)
        if (change._tag === "Removed") this.view.delete(change.key)
        else this.view.set(change.key, valueText(change.value))
        this.last.set(change.key, stored[index]!)
      }
      this.state = result.state
    })
  }

  /** One whole observation. */
  observe(): Effect.Effect<ReadonlyArray<Change.Change<A>>, Violation> {
    return Effect.gen(this, function* () {
      const { bench } = this
      const all: Array<Change.Change<A>> = []
      for (this.polls = 0; ; this.polls++) {
        if (this.polls >= bench.options.maxPolls) {
          return yield* bench.violation(
            "ends",
            `a poll without \`more\` among the first ${bench.options.maxPolls} of an observation`,
            "`more: true` each time",
            "Leave `more` out of the poll that has seen the last page; an unchanged cursor is that."
          )
        }
        const { changes, result } = yield* this.step()
        all.push(...changes)
        if (result.more !== true) break
      }
      bench.observed()
      return all
    })
  }

  /** Observes until nothing is held back any more. */
  settle(): Effect.Effect<ReadonlyArray<Change.Change<A>>, Violation> {
    return Effect.gen(this, function* () {
      const { approve, plan } = this.bench.definition
      const all = [...(yield* this.observe())]
      // what is believed only when later observations say it again
      for (let walk = 1; walk < (this.bench.subject.settlesAfter ?? 1); walk++) all.push(...(yield* this.observe()))
      for (let round = 0; round < 3 && Option.isSome(plan(this.state)); round++) {
        this.state = approve(this.state)
        all.push(...(yield* this.observe()))
      }
      return all
    })
  }

  private *wellFormed(changes: ReadonlyArray<Change.Change<A>>) {
    const { bench } = this
    const seen = new Set<string>()
    for (const { key } of changes) {
      const twice = seen.has(key)
      seen.add(key)
      if (isWellFormed(key) && !twice) continue
      return yield* bench.violation(
        "keys",
        "keys that are non-empty text without lone surrogates, each once in a batch",
        twice ? `${JSON.stringify(key)} twice in: ${linesOf(changes)}` : `the key ${JSON.stringify(key)}`,
        twice
          ? "Report the last value of a key once, or make the key name one item among all others."
          : "Make the key from an id of the item, as a string."
      )
    }
  }

  private *possible(change: Change.Change<A>) {
    const { bench, view } = this
    const known = view.get(change.key)
    if (bench.options.mode === "log") {
      if (change._tag === "Added") return
      return yield* bench.violation(
        "kinds",
        "an Added for each row",
        linesOf([change]),
        "Report each row of a log as Added."
      )
    }
    const value = change._tag === "Removed" ? undefined : valueText(change.value)
    const isPossible =
      change._tag === "Added"
        ? known === undefined
        : known !== undefined && (change._tag === "Removed" || value !== known)
    if (!isPossible) {
      return yield* bench.violation(
        "kinds",
        known === undefined
          ? `Added of ${change.key}, or nothing`
          : `Removed or another value of ${change.key}, or nothing`,
        `${linesOf([change])}, where ${known === undefined ? "nothing" : known} was known`,
        "Compare with what the state knows: new keys are Added, other values Modified, missing keys Removed, once each."
      )
    }
    if (change._tag === "Added" || Option.isNone(change.previous)) return
    const previous = valueText(change.previous.value)
    if (previous !== known) {
      return yield* bench.violation(
        "kinds",
        `the previous value ${known}`,
        linesOf([change]),
        "Take `previous` from the state, or leave it out."
      )
    }
  }

  /** Whether the consumer knows what is there. */
  isCurrent(law: Law, advice: string): Effect.Effect<void, Violation> {
    return Effect.suspend(() => {
      const { bench, view } = this
      const { current } = bench
      const tell = (entries: ReadonlyMap<string, string>) =>
        `{${Array.from(entries, (entry) => entry.join(": ")).join(", ")}}`
      const order = (entries: ReadonlyMap<string, string>) =>
        bench.options.mode === "log" ? entries : new Map([...entries].sort(([a], [b]) => (a < b ? -1 : 1)))
      const expected = tell(order(current))
      const found = tell(order(view))
      return expected === found ? Effect.void : Effect.fail(bench.violation(law, expected, found, advice))
    })
  }
}
