/**
 * One trial: a watcher, a world and a store that go wrong by a seed; life after life, until the world rests and the consumer
 * must know all of it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scheduler from "effect/Scheduler"
import type * as Change from "../core/Change.js"
import type { CheckpointError } from "../core/Checkpoints.js"
import { Checkpoints, makeMemory } from "../core/Checkpoints.js"
import { describe } from "../core/describe.js"
import type { Polled, Source } from "../core/Source.js"
import { fromDefinition } from "../core/Source.js"
import * as Watcher from "../core/Watcher.js"
import type { Chance } from "./chance.js"
import * as chances from "./chance.js"
import type { Kind } from "./consumer.js"
import { Consumer } from "./consumer.js"
import * as faultyStore from "./faultyStore.js"
import { Incarnation } from "./incarnation.js"
import type { Mode } from "./oracle.js"
import { Oracle } from "./oracle.js"
import { valueText } from "./valueText.js"

/** What the maker of a subject gets. */
export interface Stage {
  readonly chance: Chance
  /** How probable each fault is at each opportunity. */
  readonly faults: number
  /** Whether a fault strikes now. Counted by kind; none strikes once the world rests. */
  readonly fault: (kind: string, probability: number) => boolean
  /** A place where the process may die and the world may change. */
  readonly point: (label: string) => Effect.Effect<void>
  /** Says that a fatal error of the source was injected. */
  readonly mayEnd: (why: string) => void
  /** How often the world has changed, as the judge counts. */
  readonly revision: () => number
  /** Whether the first complete observation is over and saved. */
  readonly hasBaseline: () => boolean
  /**
   * Tells of a complete observation, from one revision to another. A Removed is then true only if its key was absent at
   * an instant of one of them; of a source that never tells, at an instant of any polls.
   */
  readonly observed: (from: number, to: number) => void
}

/** What is simulated: a source, and the world behind it. */
export interface Subject<A, E> {
  readonly source: Source<A, E>
  /** Changes the world in one step, to values that it never had. */
  readonly change: (chance: Chance) => void
  /** What a consumer has to know in the end, by key; of a log all rows, in order. */
  readonly current: () => ReadonlyMap<string, A>
  /** In how many observations of a world at rest everything has been reported, as removals may be confirmed first [1]. */
  readonly settlesAfter?: number | undefined
  /** Which rows of a log may be put aside instead of delivered, until the world rests; then they come when they are tried again. */
  readonly isPoison?: ((key: string) => boolean) | undefined
  /** Of a log: a poll that is not to be followed at once has seen every row that was there when it began [not asked]. */
  readonly seesAll?: boolean | undefined
}

/** What of a watch can be set; the rest is drawn by lot. */
export type WatchOptions = Omit<Watcher.Options, "checkpoint" | "retry" | "schedule">

export interface TrialOptions<A, E> {
  readonly subject: (stage: Stage) => Subject<A, E>
  readonly mode: Mode
  readonly seed: number
  readonly trial: number
  /** The most crashes at random. */
  readonly crashes: number
  /** Whether to write down what happens. */
  readonly isTraced: boolean
  /** Crashes exactly once, at this point [none]. */
  readonly crashAt: number | undefined
  /** How often the world changes. */
  readonly changes: number
  /** How probable each fault is at each opportunity. */
  readonly faults: number
  readonly watch: WatchOptions
  readonly handler: ((change: Change.Change<A>, delivery: Watcher.Delivery) => Effect.Effect<void>) | undefined
}

export interface Outcome {
  readonly violation: string | undefined
  readonly trace: ReadonlyArray<string>
  readonly points: number
  readonly crashes: number
  readonly polls: number
  readonly delivered: number
  readonly redelivered: number
  readonly fired: ReadonlyMap<string, number>
}

const interval = 10_000
const saveTimeout = 5_000
const maxTrace = 2_000

/** Points at which there is nothing to lose: a crash there costs a life and proves little. */
const isIdle = (label: string): boolean => label === "claim" || label === "claimed"

export class Trial<A, E> {
  readonly trace: Array<string> = []
  readonly fired = new Map<string, number>()
  private readonly chance: Chance
  private readonly subject: Subject<A, E>
  private readonly oracle: Oracle<A>
  private readonly consumer: Consumer<A>
  private readonly watch: WatchOptions & { readonly checkpoint: string }
  private readonly crashRate: number
  private life: Incarnation | undefined
  private watcher: Watcher.Watcher<A, E | CheckpointError> | undefined
  private now = 0
  private points = 0
  private crashes = 0
  private polls = 0
  private changesLeft: number
  /** The world rests, and nothing goes wrong any more. */
  private isCalm = false
  /** An observation has ended since. */
  private looks = 0
  private isQuiet = false
  private isOver = false
  private stuck = false
  private lives = 0
  private resumeDriver: (() => void) | undefined

  constructor(private readonly options: TrialOptions<A, E>) {
    const { mode, seed, trial } = options
    const chance = (this.chance = chances.make(seed, trial))
    this.changesLeft = options.changes
    const kind = chance.pick<Kind>(["runForEach", "runForEachBatch", "batches"])
    const parks = kind === "runForEach" && chance.happens(0.3)
    this.crashRate = 0.01 + chance.next() * 0.25
    const suppress = chance.happens(0.2)
    const isLogByRow = mode === "log" && kind === "runForEach"
    this.watch = {
      interval,
      saveTimeout,
      timeout: 3_000,
      maxBackoff: 4 * interval,
      saveInterval: 2 * interval,
      initial: suppress ? "suppress" : "emit",
      batchSize: isLogByRow ? 1 : chance.pick([1, 2, 3, 100]),
      maxInFlight: 1 + chance.below(5),
      ...options.watch,
      checkpoint: "simulated"
    }
    this.subject = options.subject({
      chance,
      faults: options.faults,
      fault: this.fault,
      point: this.point,
      revision: () => this.oracle.revision,
      hasBaseline: () => this.oracle.hasBaseline,
      observed: (from, to) => this.oracle.observed(from, to),
      mayEnd: (why) => {
        if (this.life !== undefined) this.life.mayEnd = why
      }
    })
    const before = chance.below(6)
    for (let count = 0; count < before; count++) this.subject.change(chance)
    this.oracle = new Oracle<A>(mode, this.watch.initial === "suppress", this.subject.current(), this.subject.isPoison)
    const { faults, handler } = options
    const { fault, note, oracle, point } = this
    const tick = Effect.map(Clock.currentTimeMillis, (now) => {
      this.now = now
    })
    this.consumer = new Consumer<A>(
      { mode, oracle, chance, faults, interval, point, fault, isCalm: () => this.isCalm, note, tick, handler },
      kind,
      parks
    )
    this.note(() => `${mode} ${kind}${parks ? " parking" : ""} ${JSON.stringify(this.watch)}`)
    this.note(this.describeWorld)
  }

  // ---------------------------------------------------------------- what goes wrong

  private readonly note = (line: () => string): void => {
    if (!this.options.isTraced || this.trace.length >= maxTrace) return
    this.trace.push(`${String(this.now / 1000).padStart(8)} ${line()}`)
  }

  private readonly fault = (kind: string, probability: number): boolean => {
    if (this.isCalm || this.isOver || !this.chance.happens(probability)) return false
    this.fired.set(kind, (this.fired.get(kind) ?? 0) + 1)
    this.note(() => `  fault: ${kind}`)
    return true
  }

  private readonly describeWorld = (): string =>
    `world: ${Array.from(this.subject.current(), ([key, value]) => `${key}=${valueText(value)}`).join(" ")}`

  private changeWorld(): void {
    if (this.changesLeft <= 0) return
    this.changesLeft--
    this.subject.change(this.chance)
    this.oracle.changed(this.subject.current())
    this.note(this.describeWorld)
  }

  private readonly point = (label: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { chance, life, options } = this
      if (life === undefined || this.isOver) return Effect.interrupt
      if (!life.isAlive) return life.never
      this.points++
      if (chance.happens(0.05)) this.changeWorld()
      if (this.isCalm) return Effect.void
      const crashes =
        options.crashAt === undefined
          ? this.crashes < options.crashes && chance.happens(isIdle(label) ? this.crashRate / 8 : this.crashRate)
          : options.crashAt === this.points
      if (!crashes) return Effect.void
      this.crashes++
      const kind = `crash: ${label}`
      this.fired.set(kind, (this.fired.get(kind) ?? 0) + 1)
      this.note(() => `CRASH at ${label} (point ${this.points})`)
      life.crash()
      return life.never
    })

  // ---------------------------------------------------------------- the watcher

  /** The source, with a point on either side of a poll. */
  private get watched(): Source<A, E> {
    const { definition } = this.subject.source
    return fromDefinition<A, E, never>({
      ...definition,
      baseline:
        definition.baseline === undefined
          ? undefined
          : Effect.suspend(() => {
              this.oracle.pollBegan()
              return Effect.tap(definition.baseline!, () => {
                this.oracle.pollEnded(true)
                this.oracle.skipped()
              })
            }),
      poll: (state: unknown, polled: Polled<unknown>) =>
        Effect.suspend(() => {
          const { isCalm } = this
          return Effect.gen(this, function* () {
            yield* this.point("poll")
            this.now = yield* Clock.currentTimeMillis
            this.polls++
            this.consumer.settled()
            this.oracle.pollBegan()
            this.note(() => "poll")
            const found = yield* Effect.tapErrorCause(definition.poll(state, polled), (cause) =>
              Effect.sync(() => this.note(() => `  poll failed: ${describe(cause)}`))
            )
            const isComplete = found.more !== true
            this.oracle.pollEnded(isComplete)
            if (this.subject.seesAll === true) this.oracle.read(found.changes, isComplete)
            this.note(
              () =>
                `  polled: ${found.changes.map((change) => `${change._tag} ${change.key}`).join(", ")}${isComplete ? "" : " …"}`
            )
            yield* this.point("polled")
            // the first walk that ends in a world at rest may have begun before
            const isQuiet = this.looks >= (this.subject.settlesAfter ?? 1) && isComplete && found.changes.length === 0
            if (isCalm && isComplete) this.looks++
            if (isQuiet && Option.isNone(definition.plan(found.state)) && this.oracle.isSettled) {
              if (this.watcher === undefined || (yield* this.watcher.parked).length === 0) this.quiet()
            }
            return found
          })
        })
    })
  }

  private quiet(): void {
    this.isQuiet = true
    this.resumeDriver?.()
  }

  private lifeOf(life: Incarnation, store: Checkpoints["Type"]): Effect.Effect<unknown, unknown> {
    const faults = { rate: this.options.faults, saveTimeout }
    const host = {
      point: this.point,
      fault: this.fault,
      below: this.chance.below,
      saved: (head: string, isAnswered: boolean) => this.oracle.saved(head, isAnswered),
      trace: this.note
    }
    const body = Effect.gen(this, function* () {
      const watcher = yield* Watcher.make(this.watched, this.watch)
      const open = watcher as Watcher.Watcher<A, E | CheckpointError>
      this.watcher = open
      yield* this.consumer.consume(open, life)
    })
    return Effect.scoped(body).pipe(
      Effect.provideService(Checkpoints, faultyStore.make(store, life, host, faults)),
      Effect.withRandom(Random.make(this.options.seed + this.options.trial))
    )
  }

  // ---------------------------------------------------------------- the world around it

  /** A second owner takes the checkpoint: the running watcher may not write any more. */
  private fence(store: Checkpoints["Type"]): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { life } = this
      if (life === undefined || !life.isAlive || !this.fault("second owner", 1)) return Effect.void
      life.mayEnd = "second owner"
      return Effect.ignore(Effect.scoped(store.claim("simulated")))
    })
  }

  /** A person looks at the removals that are held back, and approves if the keys are really gone. */
  private approve(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { watcher } = this
      if (watcher === undefined) return Effect.void
      return Effect.flatMap(watcher.status.get, ({ phase }) => {
        if (phase._tag !== "Guarded" || !phase.plan.keys.every((key) => this.oracle.isAbsent(key))) return Effect.void
        if (!this.fault("approval", 1)) return Effect.void
        this.oracle.looked()
        return watcher.approve
      })
    })
  }

  private redriveAll(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { watcher } = this
      if (watcher === undefined || this.life?.isAlive !== true) return Effect.void
      return Effect.flatMap(watcher.parked, (parked) => {
        this.oracle.areParked(parked.map(({ id }) => id))
        return Effect.forEach(
          parked,
          ({ id }) => {
            this.oracle.redriving(id)
            return watcher.redrive(id)
          },
          { discard: true }
        )
      })
    })
  }

  private around(store: Checkpoints["Type"]): Effect.Effect<void> {
    return Effect.gen(this, function* () {
      const { chance } = this
      while (this.changesLeft > 0) {
        yield* Effect.sleep(1 + chance.below(interval))
        this.now = yield* Clock.currentTimeMillis
        this.changeWorld()
        if (chance.happens(0.02)) yield* this.fence(store)
        if (chance.happens(0.3)) yield* this.approve()
        if (chance.happens(0.1)) yield* this.redriveAll()
        if (chance.happens(0.1) && this.watcher !== undefined) yield* this.watcher.poke
      }
      yield* Effect.sleep(chance.below(3 * interval))
      this.now = yield* Clock.currentTimeMillis
      this.isCalm = true
      this.note(() => "the world rests")
      for (let wait = 0; wait < 20 && !this.isQuiet; wait++) {
        yield* this.redriveAll()
        yield* Effect.sleep(2 * interval)
      }
      if (!this.isQuiet) {
        this.now = yield* Clock.currentTimeMillis
        this.stuck = true
        this.resumeDriver?.()
      }
    })
  }

  // ---------------------------------------------------------------- life after life

  private violated(): string | undefined {
    return this.oracle.broken?.rule
  }

  /** Waits until a life is over, or the trial. Gives its exit if it ended by itself. */
  private over(
    life: Incarnation,
    fiber: Fiber.RuntimeFiber<unknown, unknown>
  ): Effect.Effect<Exit.Exit<unknown, unknown> | undefined> {
    return Effect.async<Exit.Exit<unknown, unknown> | undefined>((resume) => {
      const end = (exit: Exit.Exit<unknown, unknown> | undefined): void => resume(Effect.succeed(exit))
      this.resumeDriver = () => end(undefined)
      fiber.addObserver(end)
      if (!life.isAlive || this.isQuiet || this.stuck) end(undefined)
    })
  }

  private endedBy(life: Incarnation, exit: Exit.Exit<unknown, unknown>): string | undefined {
    const why = Exit.isFailure(exit) ? describe(exit.cause) : "it completed"
    this.note(() => `the watch ended: ${why}`)
    return life.mayEnd === undefined ? `the watch ended by itself: ${why}` : undefined
  }

  readonly run: Effect.Effect<Outcome> = Effect.gen(this, function* () {
    const store = yield* makeMemory
    const scheduler = yield* Effect.withFiberRuntime<Scheduler.Scheduler>((fiber) =>
      Effect.succeed(fiber.currentScheduler)
    )
    const buried: Array<Incarnation> = []
    const world = yield* Effect.fork(this.around(store))
    let violation: string | undefined
    for (;;) {
      const life = new Incarnation(++this.lives, scheduler, () => this.resumeDriver?.())
      this.life = life
      this.oracle.began()
      this.note(() => `life ${life.number}`)
      buried.push(life)
      const fiber = yield* life.start(this.lifeOf(life, store))
      const exit = yield* this.over(life, fiber)
      this.now = yield* Clock.currentTimeMillis
      if (exit !== undefined && life.isAlive) violation = this.endedBy(life, exit)
      if (violation !== undefined || this.violated() !== undefined || this.isQuiet || this.stuck) break
      life.isAlive = false
      yield* Effect.sleep(this.chance.below(interval))
    }
    if (this.isQuiet) this.oracle.finish()
    if (this.stuck) violation ??= "the world rests, and the watcher does not come to rest"
    yield* Fiber.interrupt(world)
    const outcome = {
      violation: this.violated() ?? violation,
      trace: this.trace.slice(),
      points: this.points,
      crashes: this.crashes,
      polls: this.polls,
      delivered: this.consumer.delivered,
      redelivered: this.oracle.redeliveries,
      fired: new Map(this.fired)
    }
    this.isOver = true
    yield* Effect.forEach(buried, (life) => life.bury(), { discard: true })
    return outcome
  })
}
