/**
 * A controller of ticks: a thin shell around the plan of them.
 */
import * as Cause from "effect/Cause"
import type * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import type * as Runtime from "effect/Runtime"
import type * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Subscribable from "effect/Subscribable"
import * as WatchMetrics from "../core/WatchMetrics.js"
import { describe } from "../core/WatchStatus.js"
import { isLagged } from "./Lagged.js"
import type { Result } from "./reconciling.js"
import * as reconciling from "./reconciling.js"
import { step } from "./steps.js"
import { listen } from "./subscription.js"
import type { Due, Ended, Plan, Rules, Trigger } from "./tickPlan.js"
import * as tickPlan from "./tickPlan.js"
import { Timer } from "./timer.js"
import { Waiters } from "./waiters.js"
import { Watchdog } from "./watchdog.js"

/** How a tick ended. `waitMillis`: until it is tried again. */
export type TickOutcome =
  | { readonly _tag: "Succeeded"; readonly requeueAfterMillis: Option.Option<number> }
  | { readonly _tag: "Failed"; readonly cause: Cause.Cause<unknown>; readonly waitMillis: number }
  | { readonly _tag: "Terminal"; readonly cause: Cause.Cause<unknown> }
  | { readonly _tag: "Interrupted" }

/**
 * One tick, the `n`-th. `matched`, `ignored` and `missed` are the events since the tick before; `examined`, `changed` and `skipped` what
 * its reconcile said. Times are epoch milliseconds.
 */
export interface TickReport {
  readonly _tag: "Tick"
  readonly seq: number
  readonly n: number
  readonly trigger: Trigger
  readonly startedAt: number
  readonly endedAt: number
  readonly outcome: TickOutcome
  readonly matched: number
  readonly ignored: number
  readonly missed: number
  readonly examined: number
  readonly changed: number
  readonly skipped: number
}

/**
 * What a controller reports: a tick that ended, a tick that runs very long, and that it is alive. `seq` counts reports: a gap
 * says that the reader was too slow.
 */
export type Report =
  | TickReport
  | {
      readonly _tag: "Stuck"
      readonly seq: number
      readonly n: number
      readonly startedAt: number
      readonly runningMillis: number
    }
  | { readonly _tag: "Heartbeat"; readonly seq: number; readonly at: number; readonly status: TickStatus }

/** What a controller does now. `nextAt`: when it ticks without an event. */
export type TickPhase =
  | { readonly _tag: "Starting" }
  | { readonly _tag: "Waiting"; readonly nextAt: Option.Option<number> }
  | { readonly _tag: "Ticking"; readonly since: number; readonly trigger: Trigger }
  | {
      readonly _tag: "Backoff"
      readonly attempt: number
      readonly until: number
      readonly cause: Cause.Cause<unknown>
    }
  | { readonly _tag: "Terminal"; readonly cause: Cause.Cause<unknown> }
  | { readonly _tag: "Stopped" }

/** The status of a controller. Times are epoch milliseconds; counts are since it was made. */
export interface TickStatus {
  readonly name: string
  readonly phase: TickPhase
  readonly ticks: number
  readonly consecutiveFailures: number
  readonly lastTick: Option.Option<number>
  readonly lastSuccess: Option.Option<number>
  readonly matched: number
  readonly ignored: number
  readonly missed: number
  readonly resubscriptions: number
}

export interface TickSettings<E> {
  readonly name: string
  readonly watches: ReadonlyArray<Stream.Stream<unknown, unknown>>
  readonly filter: ((event: unknown) => boolean) | undefined
  readonly reconcile: Effect.Effect<Result | void, E>
  readonly rules: Rules
  readonly retry: Schedule.Schedule<unknown, unknown>
  readonly timeoutMillis: number | undefined
  readonly stuckMillis: number
  readonly heartbeatMillis: number
  readonly stopMillis: number
}

const maxReports = 256

/** When a failed tick is tried again whose schedule died. */
const spareWait = (failures: number): number => Math.min(1000 * 2 ** failures, 60_000)

interface Running {
  readonly n: number
  readonly startedAt: number
}

interface Counts {
  readonly matched: number
  readonly ignored: number
  readonly missed: number
}

export class Ticker<E> {
  readonly reports: Stream.Stream<Report>
  readonly status: Subscribable.Subscribable<TickStatus>
  private readonly metrics: WatchMetrics.ControllerMetrics
  private readonly timer: Timer
  private readonly dog: Watchdog<Running>
  private readonly loop = new Waiters()
  private readonly idle = new Waiters()
  private readonly exclusive = Effect.unsafeMakeSemaphore(1)
  private plan: Plan = tickPlan.initial
  private retryState: unknown
  private signals = 0
  private isActive = false
  private isStopping = false
  /** How many stops have begun and ended: who waits for its turn meanwhile is not to tick. */
  private stops = 0
  private stopping = 0
  private tickFiber: Fiber.RuntimeFiber<Result | void, unknown> | undefined
  private since = 0
  private trigger: Trigger = "start"
  private lastCause: Cause.Cause<unknown> = Cause.empty
  private lastSuccess: number | undefined
  private lastTick: number | undefined
  private ticks = 0
  private seq = 0
  private matched = 0
  private ignored = 0
  private missed = 0
  private resubscriptions = 0
  private reported: Counts = { matched: 0, ignored: 0, missed: 0 }

  constructor(
    private readonly settings: TickSettings<E>,
    runtime: Runtime.Runtime<never>,
    private readonly clock: Clock.Clock,
    private readonly published: PubSub.PubSub<Report>,
    private readonly touched: PubSub.PubSub<void>
  ) {
    const { name, retry, stuckMillis } = settings
    this.metrics = WatchMetrics.controller(name)
    this.retryState = retry.initial
    this.timer = new Timer(runtime, clock, () => this.signal())
    this.dog = new Watchdog(clock, stuckMillis, (tick, millis) => this.stuck(tick, millis))
    this.reports = Stream.fromPubSub(published)
    const get = Effect.sync(() => this.readStatus())
    // what changes while the first one is looked at is a second one
    const changes = Stream.unwrapScoped(
      Effect.map(Stream.fromPubSub(touched, { scoped: true }), (touches) => Stream.concat(Stream.void, touches))
    )
    this.status = Subscribable.make({ get, changes: Stream.mapEffect(changes, () => get) })
  }

  get name(): string {
    return this.settings.name
  }

  private get wallNow(): number {
    return this.clock.unsafeCurrentTimeMillis()
  }

  private get due(): Due | undefined {
    return tickPlan.next(this.plan, this.settings.rules)
  }

  private readStatus(): TickStatus {
    return {
      name: this.name,
      phase: this.readPhase(),
      ticks: this.ticks,
      consecutiveFailures: this.plan.failures,
      lastTick: Option.fromNullable(this.lastTick),
      lastSuccess: Option.fromNullable(this.lastSuccess),
      matched: this.matched,
      ignored: this.ignored,
      missed: this.missed,
      resubscriptions: this.resubscriptions
    }
  }

  private readPhase(): TickPhase {
    const { failures, isRunning, isStarting, isTerminal, lastEnd, retryAt } = this.plan
    if (isRunning) return { _tag: "Ticking", since: this.since, trigger: this.trigger }
    if (lastEnd === undefined) return { _tag: "Starting" }
    if (!this.isActive) return { _tag: "Stopped" }
    if (isStarting) return { _tag: "Starting" }
    if (isTerminal) return { _tag: "Terminal", cause: this.lastCause }
    // the plan lives by a clock that is never set back
    const wall = (at: number): number => Math.round(at - this.timer.now + this.wallNow)
    if (failures > 0 && retryAt !== undefined) {
      return { _tag: "Backoff", attempt: failures, until: wall(retryAt), cause: this.lastCause }
    }
    const { due } = this
    return {
      _tag: "Waiting",
      nextAt: due === undefined || due.at === Infinity ? Option.none() : Option.some(wall(due.at))
    }
  }

  // ---------------------------------------------------------------- events

  private signal(): void {
    this.signals++
    this.loop.wakeAll()
  }

  private wake(): void {
    this.plan = tickPlan.event(this.plan, this.timer.now)
    const { due } = this
    if (due !== undefined) this.timer.set(due.at)
  }

  private hear(events: Chunk.Chunk<unknown>): void {
    const { filter } = this.settings
    let wakes = false
    for (const event of events) {
      if (isLagged(event)) {
        this.missed += event.missed ?? 0
        WatchMetrics.update(this.metrics.lagged, event.missed ?? 0)
      } else if (filter !== undefined && !filter(event)) {
        this.ignored++
        continue
      } else this.matched++
      wakes = true
    }
    if (wakes) this.wake()
  }

  private listen(stream: Stream.Stream<unknown, unknown>, index: number): Effect.Effect<never> {
    return listen(this.name, index, stream, {
      heard: (events) => Effect.sync(() => this.hear(events)),
      restarted: Effect.sync(() => {
        this.resubscriptions++
        WatchMetrics.update(this.metrics.resubscriptions, 1)
        this.wake()
      })
    })
  }

  // ---------------------------------------------------------------- running

  readonly run: Effect.Effect<void> = Effect.acquireUseRelease(
    Effect.suspend(() => this.begin()),
    () =>
      Effect.scoped(
        Effect.gen(this, function* () {
          yield* Effect.forEach(this.settings.watches, (watch, index) => Effect.forkScoped(this.listen(watch, index)), {
            discard: true
          })
          yield* Effect.forkScoped(this.dog.run)
          yield* Effect.forkScoped(this.beat)
          yield* Effect.addFinalizer(() => Effect.sync(() => this.timer.clear()))
          yield* this.turns()
        })
      ),
    () =>
      Effect.suspend(() => {
        this.isActive = false
        return this.touch
      })
  )

  private begin(): Effect.Effect<void> {
    if (this.isActive) return Effect.dieMessage(`Controller: "${this.name}" runs already; make a second one instead.`)
    this.isActive = true
    this.isStopping = false
    this.plan = tickPlan.begun(this.plan)
    WatchMetrics.update(this.metrics.maxConcurrent, 1)
    return Effect.void
  }

  private *turns() {
    while (!this.isStopping) {
      const heard = this.signals
      const { due } = this
      if (due !== undefined && due.at <= this.timer.now + Timer.resolution) {
        yield* this.exclusive.withPermits(1)(this.tickIfDue)
        continue
      }
      if (due !== undefined && due.at < Infinity) this.timer.set(due.at)
      yield* this.loop.wait(() => this.signals === heard)
    }
  }

  /** Somebody may have ticked while it waited for its turn. */
  private get tickIfDue(): Effect.Effect<void> {
    const tick = this.tick(() => {
      const { due } = this
      const isDue = due !== undefined && due.at <= this.timer.now + Timer.resolution && !this.isStopping
      return isDue ? due.trigger : undefined
    })
    return Effect.asVoid(tick)
  }

  readonly tickOnce: Effect.Effect<TickReport> = Effect.suspend(() => {
    const { stops } = this
    const trigger = (): Trigger | undefined => (this.stops === stops && this.stopping === 0 ? "manual" : undefined)
    const tick = this.exclusive.withPermits(1)(this.tick(trigger))
    return Effect.flatMap(tick, (report) => (report === undefined ? Effect.interrupt : Effect.succeed(report)))
  })

  readonly stop = (deadline?: Duration.DurationInput): Effect.Effect<void> => {
    const stopping = Effect.sync(() => {
      this.isStopping = true
      this.stops++
      this.stopping++
      this.signal()
    })
    const stopped = Effect.sync(() => {
      this.stops++
      this.stopping--
    })
    const ended = Effect.zipRight(
      // in a finalizer nothing else could end the wait
      Effect.interruptible(
        Effect.timeoutOption(
          this.idle.wait(() => this.plan.isRunning),
          deadline ?? this.settings.stopMillis
        )
      ),
      Effect.suspend(() => (this.tickFiber === undefined ? Effect.void : Fiber.interrupt(this.tickFiber)))
    )
    return Effect.acquireUseRelease(
      stopping,
      () => ended,
      () => stopped
    )
  }

  /** Ticks, unless there is no reason to: that is found out where nothing can come between it and the tick. */
  private tick(reason: () => Trigger | undefined): Effect.Effect<TickReport | undefined> {
    const { name, reconcile, timeoutMillis } = this.settings
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(this, function* () {
        const trigger = reason()
        if (trigger === undefined) return undefined
        const tick: Running = { n: ++this.ticks, startedAt: this.wallNow }
        this.trigger = trigger
        this.since = tick.startedAt
        this.plan = tickPlan.started(this.plan, this.timer.now)
        this.dog.started(tick)
        this.metrics.activeWorkers.unsafeModify(1, [])
        yield* this.touch
        const work = reconciling.bounded(name, "Controller.tick", reconcile, timeoutMillis)
        const fiber = yield* Effect.fork(Effect.interruptible(work))
        this.tickFiber = fiber
        const waited = yield* Effect.exit(restore(Fiber.await(fiber)))
        if (Exit.isFailure(waited)) yield* Fiber.interrupt(fiber)
        this.tickFiber = undefined
        const isCancelled = Exit.isFailure(waited) || this.isStopping
        const report = yield* this.finish(tick, yield* Fiber.await(fiber), isCancelled)
        return Exit.isFailure(waited) ? yield* Effect.failCause(waited.cause) : report
      })
    )
  }

  private finish(
    tick: Running,
    exit: Exit.Exit<Result | void, unknown>,
    isCancelled: boolean
  ): Effect.Effect<TickReport> {
    return Effect.gen(this, function* () {
      const endedAt = this.wallNow
      const isInterrupted = isCancelled && Exit.isInterrupted(exit)
      const ending = reconciling.endingOf(exit)
      const millis = this.dog.ended(tick)
      if (!isInterrupted) reconciling.measure(this.metrics, ending, millis)
      const outcome: TickOutcome = isInterrupted ? { _tag: "Interrupted" } : yield* this.outcomeOf(ending)
      this.metrics.activeWorkers.unsafeModify(-1, [])
      this.plan = tickPlan.ended(this.plan, this.timer.now, asEnded(outcome))
      this.lastTick = endedAt
      if (outcome._tag === "Succeeded") this.lastSuccess = endedAt
      const { examined = 0, changed = 0, skipped = 0 } = ending._tag === "Succeeded" ? ending.result : {}
      const { ignored, matched, missed } = this
      const before = this.reported
      this.reported = { matched, ignored, missed }
      const report: TickReport = {
        _tag: "Tick",
        seq: this.seq++,
        n: tick.n,
        trigger: this.trigger,
        startedAt: tick.startedAt,
        endedAt,
        outcome,
        matched: matched - before.matched,
        ignored: ignored - before.ignored,
        missed: missed - before.missed,
        examined,
        changed,
        skipped
      }
      this.signal()
      this.idle.wakeAll()
      yield* PubSub.publish(this.published, report)
      yield* this.touch
      return report
    })
  }

  private outcomeOf(ending: reconciling.Ending): Effect.Effect<TickOutcome> {
    return Effect.gen(this, function* () {
      if (ending._tag === "Succeeded") {
        this.retryState = this.settings.retry.initial
        return { _tag: "Succeeded", requeueAfterMillis: Option.fromNullable(ending.requeueMillis) }
      }
      const { cause } = ending
      this.lastCause = cause
      const wait = ending._tag === "Terminal" ? undefined : yield* this.waitAfter(cause)
      const next = wait === undefined ? "waits for an event" : `next in ${Duration.format(Duration.millis(wait))}`
      yield* this.warn(`tick ${this.ticks} failed (${next}): ${describe(cause)}`)
      return wait === undefined ? { _tag: "Terminal", cause } : { _tag: "Failed", cause, waitMillis: wait }
    })
  }

  /** A schedule is code of the application: one that dies is not to end the controller. */
  private waitAfter(cause: Cause.Cause<unknown>): Effect.Effect<number | undefined> {
    const stepped = Effect.suspend(() => step(this.settings.retry, this.wallNow, Cause.squash(cause), this.retryState))
    return Effect.matchCauseEffect(stepped, {
      onFailure: (died) =>
        Effect.as(this.warn(`its \`retry\` schedule died: ${describe(died)}`), spareWait(this.plan.failures)),
      onSuccess: ({ state, wait }) => {
        this.retryState = state
        return Effect.succeed(wait)
      }
    })
  }

  // ---------------------------------------------------------------- telling

  private get touch(): Effect.Effect<void> {
    return Effect.asVoid(PubSub.publish(this.touched, undefined))
  }

  private warn(message: string): Effect.Effect<void> {
    return Effect.annotateLogs(Effect.logWarning(`${this.name}: ${message}`), { "periscope.controller": this.name })
  }

  private stuck({ n, startedAt }: Running, runningMillis: number): Effect.Effect<void> {
    WatchMetrics.update(this.metrics.stuck, 1)
    const report: Report = { _tag: "Stuck", seq: this.seq++, n, startedAt, runningMillis }
    const text = `tick ${n} has been running for ${Duration.format(Duration.millis(runningMillis))}`
    return Effect.zipRight(this.warn(text), PubSub.publish(this.published, report))
  }

  private readonly beat: Effect.Effect<never> = Effect.suspend(() =>
    Effect.forever(
      Effect.zipRight(
        Effect.sleep(this.settings.heartbeatMillis),
        Effect.suspend(() => {
          const report: Report = { _tag: "Heartbeat", seq: this.seq++, at: this.wallNow, status: this.readStatus() }
          return PubSub.publish(this.published, report)
        })
      )
    )
  )
}

const asEnded = (outcome: TickOutcome): Ended => {
  switch (outcome._tag) {
    case "Succeeded":
      return { _tag: "Succeeded", requeueAfter: Option.getOrUndefined(outcome.requeueAfterMillis) }
    case "Failed":
      return { _tag: "Failed", wait: outcome.waitMillis }
    default:
      return outcome
  }
}

export const make = <E>(settings: TickSettings<E>): Effect.Effect<Ticker<E>> =>
  Effect.gen(function* () {
    const runtime = yield* Effect.runtime<never>()
    const clock = yield* Effect.clock
    const published = yield* PubSub.sliding<Report>(maxReports)
    const touched = yield* PubSub.sliding<void>(1)
    return new Ticker(settings, runtime, clock, published, touched)
  })
