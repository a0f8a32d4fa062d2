/**
 * The pace of one watcher: waits, polls, and decides what a failure means.
 *
 * Everything happens when its one consumer pulls, so a consumer that is slow slows the source, and one that is gone polls
 * nothing.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Scope from "effect/Scope"
import type * as Utils from "effect/Utils"
import { retryAfter } from "./Backoff.js"
import * as alarms from "./alarms.js"
import type * as Change from "./Change.js"
import type { CheckpointError } from "./Checkpoints.js"
import { clockOf } from "./clockOf.js"
import { Conflated } from "./conflated.js"
import type { Definition } from "./definition.js"
import type { Found, Handed, Host, Opened } from "./delivery.js"
import { Delivery } from "./delivery.js"
import { describe } from "./describe.js"
import type { Rules } from "./ledger.js"
import * as ledger from "./ledger.js"
import type { Settings, Steps } from "./settings.js"
import { backoff } from "./settings.js"
import type { RemovalPlan } from "./removalGuard.js"
import { isWithin } from "./removalGuard.js"
import { fromDefinition, provideContext } from "./Source.js"
import type { Passed } from "./passing.js"
import { pass } from "./passing.js"
import * as WatchMetrics from "./WatchMetrics.js"
import type { Phase, WatchStatus } from "./WatchStatus.js"
import { isTraced } from "./tracing.js"
import { PollTimeout, runWithin } from "./within.js"

/** When the next poll is due. `earliest`: when a poke may bring it forward to. */
type Due = { readonly _tag: "Tick" } | { readonly _tag: "At"; readonly at: number; readonly earliest: number }

const atOnce: Due = { _tag: "At", at: -Infinity, earliest: -Infinity }
const afterTick: Due = { _tag: "Tick" }

const isFatal = (error: unknown): boolean => Predicate.hasProperty(error, "isFatal") && error.isFatal === true

/** Pulls one batch. */
type Pulling<A, E> = Generator<
  Utils.YieldWrap<Effect.Effect<unknown, E | CheckpointError>>,
  Handed<A> | undefined,
  unknown
>

export interface EngineOptions<A, E> {
  /** Its effects need `services`. */
  readonly definition: Definition<A, E, never>
  readonly services: Context.Context<never>
  readonly settings: Settings
  readonly ticks: Steps<unknown, never> | undefined
  readonly retry: Steps<E, never> | undefined
  /** Claims the checkpoint and reads it. */
  readonly open: Effect.Effect<Opened, CheckpointError> | undefined
  readonly rules: Rules
}

export class Engine<A, E> implements Host {
  readonly status: Conflated<WatchStatus>
  readonly delivery: Delivery<A>
  readonly settings: Settings
  /** A failed poll of any kind ends the watch. */
  isOneShot = false
  /** It has one consumer in its life, and ends with it. */
  isForOneUse = false
  private readonly definition: Definition<A, E, never>
  private hide: (() => void) | undefined

  private due: Due = atOnce
  private failures = 0
  private lastError: Cause.Cause<unknown> = Cause.empty
  private polls = 0
  private lastSuccess: number | undefined
  private lastChange: number | undefined
  private handlerFailures = 0
  /** All batches up to this one belong to the first complete observation. */
  private syncedBy: number | undefined

  private isOpen = false
  private isBusy = false
  private isLeft = false
  private isAbandoned = false
  private isPoked = false
  /** What was held back when somebody approved; "saved": what the checkpoint holds, which is not read yet. */
  private approved: Option.Option<RemovalPlan> | "saved" | undefined
  private isDraining = false
  private hasEnded = false
  private isStopped = false
  private failure: Cause.Cause<E | CheckpointError> | undefined

  private hinting: Scope.CloseableScope | undefined

  private signals = 0
  private waker: (() => void) | undefined
  private cancelPoll: (() => void) | undefined

  constructor(private readonly options: EngineOptions<A, E>) {
    this.definition = options.definition
    this.settings = options.settings
    this.status = new Conflated(() => this.readStatus())
    const { definition } = provideContext(fromDefinition(options.definition), options.services)
    this.delivery = new Delivery(definition, options.settings, options.rules, this, options.open !== undefined)
  }

  get name(): string {
    return this.definition.name
  }

  /** What a stored change is kept in order with. */
  get orderOf(): (stored: Change.Change<unknown>) => string {
    return this.definition.orderBy ?? (({ key }) => key)
  }

  /** Shows the watcher in the metrics. */
  show(): void {
    this.hide ??= WatchMetrics.register(this.status.read)
  }

  /** Takes the watcher off the metrics. */
  close(): void {
    this.hide?.()
    this.hide = undefined
  }

  // ---------------------------------------------------------------- status

  private readPhase(): Phase {
    const { due } = this
    const { saveFailure, state } = this.delivery
    // between two consumers nothing polls: that is no life
    if (this.isStopped || this.isLeft) return { _tag: "Stopped", error: Option.fromNullable(this.failure) }
    if (saveFailure !== undefined) return { _tag: "Backoff", ...saveFailure }
    if (this.failures > 0 && due._tag === "At") {
      return { _tag: "Backoff", attempt: this.failures, until: due.at, error: this.lastError }
    }
    if (this.lastSuccess === undefined) return { _tag: "Starting" }
    const nextPollAt = due._tag === "At" && due.at > 0 ? Option.some(due.at) : Option.none()
    const plan = this.definition.plan(state)
    return Option.isSome(plan) ? { _tag: "Guarded", plan: plan.value, nextPollAt } : { _tag: "Live", nextPollAt }
  }

  private readStatus(): WatchStatus {
    return {
      source: this.name,
      phase: this.readPhase(),
      lastSuccess: Option.fromNullable(this.lastSuccess),
      lastChange: Option.fromNullable(this.lastChange),
      consecutiveFailures: this.failures,
      polls: this.polls,
      uncommitted: ledger.uncommitted(this.delivery.ledger),
      parked: this.delivery.ledger.parked.length,
      handlerFailures: this.handlerFailures
    }
  }

  /** Counts a failed or, with 0, a good attempt of the handler. */
  handlerFailed(failuresInARow: number): void {
    if (failuresInARow > 0) WatchMetrics.update(WatchMetrics.handlerFailures, 1)
    if (failuresInARow === this.handlerFailures) return
    this.handlerFailures = failuresInARow
    this.status.touch()
  }

  private get isSynced(): boolean {
    return this.syncedBy !== undefined && this.delivery.ledger.prefix >= this.syncedBy
  }

  get awaitSynced(): Effect.Effect<void, E | CheckpointError> {
    return Effect.flatMap(
      this.status.until(() => this.isSynced || this.failure !== undefined),
      () => (this.isSynced ? Effect.void : Effect.failCause(this.failure!))
    )
  }

  // ---------------------------------------------------------------- signals

  poke(): void {
    this.isPoked = true
    this.wake()
  }

  approve(): void {
    this.approved = this.isOpen ? this.definition.plan(this.delivery.state) : "saved"
    this.wake()
  }

  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isDraining = true
      this.cancelPoll?.()
      this.wake()
      return this.status.until(() => !this.isBusy && (this.isAbandoned || this.delivery.inFlight === 0))
    })
  }

  touch(): void {
    this.status.touch()
  }

  wake(): void {
    this.status.touch()
    this.signals++
    this.waker?.()
  }

  /** How long {@link waiting} waits at most, and the signals that came before. */
  private rest: number | undefined
  private heard = 0

  /**
   * Waits for a signal; with `rest` at most that long, and true if it took that long. Interrupted, it leaves its alarm to
   * {@link leave} or the next wait, which take it back. Made once for many waits: an idle watcher is nothing but waits.
   */
  private waiting(clock: Clock.Clock): Effect.Effect<boolean> {
    return Effect.async<boolean>((resume) => {
      if (this.signals !== this.heard) return resume(Effect.succeed(false))
      // of a pull that was interrupted, by a consumer that stays and pulls again
      this.waker?.()
      const end = (isOver: boolean): void => {
        this.waker = undefined
        if (alarm !== undefined) alarms.cancel(clock, alarm)
        resume(Effect.succeed(isOver))
      }
      this.waker = () => end(false)
      const alarm = this.rest === undefined ? undefined : alarms.set(clock, this.rest, () => end(true))
    })
  }

  // ---------------------------------------------------------------- the consumer

  /** Takes the place of the one consumer; what an earlier one left uncommitted is handed out again. */
  begin(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.isBusy) {
        return Effect.dieMessage(
          `Watcher: "${this.name}" has a consumer already; a watcher has one at a time, make a second watcher of the same source.`
        )
      }
      this.isBusy = true
      this.isLeft = false
      this.isAbandoned = false
      this.delivery.begin()
      return this.definition.hints === undefined ? Effect.void : this.listen(this.definition.hints)
    })
  }

  /** Listens to what says that there may be something new, for as long as there is a consumer. */
  private listen(hints: NonNullable<Definition<A, E, never>["hints"]>): Effect.Effect<void> {
    return Effect.flatMap(Scope.make(), (scope) => {
      this.hinting = scope
      const listening = Effect.provide(
        hints(() => this.poke()),
        Context.add(this.options.services, Scope.Scope, scope)
      )
      // what it forks is to be interruptible, though this is where a resource is taken
      return Effect.catchAllCause(Effect.interruptible(listening), (cause) =>
        this.warn(`it is polled without hints, which failed: ${describe(cause)}`)
      )
    })
  }

  /** Leaves it. `isAbandoned`: nothing that was handed out will be committed any more. */
  leave(isAbandoned: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.waker?.()
      this.isBusy = false
      this.isLeft = true
      this.isAbandoned = isAbandoned
      this.status.touch()
      if (this.isForOneUse) this.close()
      const { hinting } = this
      this.hinting = undefined
      return hinting === undefined ? Effect.void : Scope.close(hinting, Exit.void)
    })
  }

  /** Gives the next batch; `undefined`: there will be none. */
  pull(): Effect.Effect<Handed<A> | undefined, E | CheckpointError> {
    return Effect.flatMap(Effect.runtime<never>(), (runtime) => Effect.gen(this, () => this.pulling(runtime)))
  }

  /** {@link pull} for a generator. A poll that finds nothing comes by here again and again: what needs no effect makes none. */
  *pulling(caller: Runtime.Runtime<never>): Pulling<A, E> {
    const clock = clockOf(caller.fiberRefs)
    const runtime = this.runtimeOf(caller)
    const { delivery } = this
    const waiting = this.waiting(clock)
    if (!this.isOpen) yield* this.open()
    for (;;) {
      if (this.failure !== undefined) return yield* Effect.failCause(this.failure)
      const handed = delivery.hasNext ? yield* delivery.take() : undefined
      if (handed !== undefined) {
        WatchMetrics.countChanges(handed.changes)
        return handed
      }
      if (this.hasEnded || this.isDraining) return yield* this.end()
      if (delivery.isFull) {
        this.rest = undefined
        this.heard = this.signals
        yield* waiting
        continue
      }
      const { approved } = this
      if (approved !== undefined) {
        this.approved = undefined
        yield* this.applyApproval(approved === "saved" ? this.definition.plan(delivery.state) : approved)
      }
      const now = clock.unsafeCurrentTimeMillis()
      if (this.due._tag === "Tick") {
        const { ticks } = this.options
        this.tick(now, ticks === undefined ? this.settings.interval : yield* ticks.next(now, undefined))
        continue
      }
      const { at, earliest } = this.due
      const rest = (this.isPoked ? Math.min(at, earliest) : at) - now
      if (rest > 0) {
        this.status.touch()
        // who has waited that long polls, whatever the time of day has become meanwhile
        this.rest = rest
        this.heard = this.signals
        if (!(yield* waiting)) continue
      }
      // a commit that cannot be saved holds the lock: nothing is polled meanwhile
      if (delivery.isSettling) yield* delivery.settled
      if (this.isStopped || this.isDraining) continue
      yield* this.attempt(clock, runtime)
    }
  }

  /** What polls run in: the caller's, with the services of the watcher, and interruptible. */
  private runtimeOf({ context, fiberRefs, runtimeFlags }: Runtime.Runtime<never>): Runtime.Runtime<never> {
    const { services } = this.options
    return Runtime.make({
      context: context === services ? context : Context.merge(context, services),
      fiberRefs,
      runtimeFlags: RuntimeFlags.enable(runtimeFlags, RuntimeFlags.Interruption)
    })
  }

  private open(): Effect.Effect<void, CheckpointError> {
    return Effect.gen(this, function* () {
      const { initialJitter, suppress } = this.settings
      if (initialJitter > 0) {
        const at = (yield* Clock.currentTimeMillis) + initialJitter * (yield* Random.next)
        this.due = { _tag: "At", at, earliest: -Infinity }
      }
      if (this.options.open !== undefined) {
        yield* Effect.tapErrorCause(
          Effect.flatMap(this.options.open, (opened) => this.delivery.open(opened)),
          (cause) => Effect.sync(() => this.stop(cause))
        )
      }
      this.needsBaseline = suppress && this.definition.baseline !== undefined && !this.delivery.ledger.synced
      this.isOpen = true
    })
  }

  private needsBaseline = false

  private end(): Effect.Effect<undefined> {
    return Effect.as(
      Effect.tap(this.delivery.flush, () => {
        this.isStopped = true
        this.status.touch()
      }),
      undefined
    )
  }

  stop(cause: Cause.Cause<E | CheckpointError>): void {
    this.failure = cause
    this.isStopped = true
    this.wake()
  }

  // ---------------------------------------------------------------- polling

  /** Releases what was approved, unless a poll that was under way has put other removals in its place. */
  private applyApproval(approved: Option.Option<RemovalPlan>): Effect.Effect<void> {
    const { definition, delivery } = this
    const before = delivery.state
    if (!isWithin(definition.plan(before), approved)) {
      return this.warn("other removals are held back than those that were approved; look at them again")
    }
    delivery.state = definition.approve(before)
    if (delivery.state !== before && Option.isNone(definition.plan(delivery.state))) this.due = atOnce
    this.status.touch()
    return Effect.void
  }

  /** Decides when the next poll is due. */
  private tick(now: number, millis: number | undefined): void {
    if (millis === undefined) this.hasEnded = true
    else this.due = { _tag: "At", at: now + millis, earliest: now }
  }

  /** One observation: what the source found, as it is delivered. */
  private observe(): Effect.Effect<Found, E> {
    const { baseline, change, parks, poll } = this.definition
    return Effect.suspend((): Effect.Effect<Found, E> => {
      if (this.needsBaseline && baseline !== undefined) {
        return Effect.map(baseline, (state) => ({ result: { changes: [], state }, passed: undefined }))
      }
      const result = poll(this.delivery.state, { committed: this.delivery.committed, watcher: this })
      if (change === undefined) return Effect.map(result, (found) => ({ result: found, passed: undefined }))
      return Effect.flatMap(result, (found): Effect.Effect<Found, E> => {
        if (found.changes.length === 0) return Effect.succeed({ result: found, passed: undefined })
        const hasRoom = (others: number): boolean => this.delivery.hasRoomAside(others)
        const passing = Effect.gen(() => pass(found.changes, change, parks, hasRoom))
        return Effect.flatMap(passing, (passed) => Effect.as(this.warnOf(passed), { result: found, passed }))
      })
    })
  }

  /** Polls once. */
  private attempt(clock: Clock.Clock, runtime: Runtime.Runtime<never>): Effect.Effect<void, E | CheckpointError> {
    const { timeout } = this.settings
    const start = clock.unsafeCurrentTimeMillis()
    this.isPoked = false
    this.polls++
    const options = { attributes: { "periscope.source": this.name }, captureStackTrace: false }
    const observed = this.observe()
    const traced = isTraced(runtime.fiberRefs) ? Effect.withSpan(observed, "Watcher.poll", options) : observed
    const outcome = runWithin(runtime, traced, timeout, (cancel) => {
      this.cancelPoll = cancel
      if (this.isDraining) cancel()
    })
    return Effect.flatMap(outcome, (outcome) => {
      this.cancelPoll = undefined
      if (outcome === "cancelled") return Effect.void
      const now = clock.unsafeCurrentTimeMillis()
      WatchMetrics.update(WatchMetrics.pollDuration, now - start)
      if (outcome === "timeout") return this.failed(this.timeoutCause(timeout), now)
      if (Exit.isFailure(outcome)) return this.failed(outcome.cause, now)
      return this.accept(outcome.value, now, clock)
    })
  }

  /** Says what of a poll is parked. */
  private warnOf({ errors, stored }: Passed): Effect.Effect<void> {
    if (errors === undefined) return Effect.void
    return Effect.forEach(
      errors,
      ([index, cause]) => this.warn(`${stored[index]!.key} is parked: ${describe(cause)}`),
      { discard: true }
    )
  }

  private warn(message: string): Effect.Effect<void> {
    return Effect.annotateLogs(Effect.logWarning(`${this.name}: ${message}`), { "periscope.source": this.name })
  }

  private timeoutCause(millis: number): Cause.Cause<E> {
    const { onTimeout } = this.definition
    return onTimeout === undefined
      ? Cause.die(new PollTimeout(this.name, millis))
      : Cause.fail(onTimeout(Duration.millis(millis)))
  }

  private accept(found: Found, now: number, clock: Clock.Clock): Effect.Effect<void, E | CheckpointError> {
    const { definition, delivery } = this
    const wasGuarded = Option.isSome(definition.plan(delivery.state))
    const { next } = delivery.ledger
    const onAccepted = (): void => {
      this.needsBaseline = false
      this.failures = 0
      this.options.retry?.reset()
      this.lastSuccess = now
      if (delivery.ledger.next !== next) this.lastChange = now
      if (found.result.more === true) {
        this.due = atOnce
      } else {
        this.due = afterTick
        this.syncedBy ??= delivery.ledger.next - 1
      }
      WatchMetrics.update(WatchMetrics.polls.succeeded, 1)
      if (!wasGuarded && Option.isSome(definition.plan(delivery.state))) {
        WatchMetrics.update(WatchMetrics.guardTrips, 1)
      }
      this.status.touch()
    }
    return Effect.matchCauseEffect(delivery.accept(found, now), {
      onFailure: (cause) => this.notAccepted(cause, clock.unsafeCurrentTimeMillis()),
      onSuccess: () => Effect.sync(onAccepted)
    })
  }

  private notAccepted(cause: Cause.Cause<CheckpointError>, now: number): Effect.Effect<void, E | CheckpointError> {
    const error = Cause.failureOption(cause)
    if (this.isOneShot || (Option.isSome(error) && !error.value.isRetryable)) return this.fatal(cause)
    return this.delay(cause, now, backoff(this.settings, this.failures + 1))
  }

  /** A poll failed: a wait and a status, unless its error is fatal or the caller's schedule has ended. */
  private failed(cause: Cause.Cause<E>, now: number): Effect.Effect<void, E | CheckpointError> {
    return Effect.gen(this, function* () {
      const { retry } = this.options
      const failure = Option.getOrUndefined(Cause.failureOption(cause))
      this.delivery.state = this.definition.recover(this.delivery.state, failure)
      if (this.isOneShot || isFatal(failure)) return yield* this.fatal(cause)
      const asked = Duration.toMillis(retryAfter(failure, this.settings.maxRetryAfter))
      // the caller's schedule takes the source's errors; a defect is none
      const own =
        retry === undefined || failure === undefined
          ? backoff(this.settings, this.failures + 1)
          : yield* retry.next(now, failure)
      if (own === undefined) return yield* this.fatal(cause)
      yield* this.delay(cause, now, Math.max(own, asked), asked)
    })
  }

  private fatal(cause: Cause.Cause<E | CheckpointError>): Effect.Effect<never, E | CheckpointError> {
    WatchMetrics.update(WatchMetrics.polls.fatal, 1)
    this.stop(cause)
    return Effect.failCause(cause)
  }

  private delay(cause: Cause.Cause<unknown>, now: number, wait: number, asked = 0): Effect.Effect<void> {
    this.failures++
    this.lastError = cause
    this.due = { _tag: "At", at: now + wait, earliest: now + Math.min(wait, Math.max(this.settings.interval, asked)) }
    WatchMetrics.update(WatchMetrics.polls.failed, 1)
    this.status.touch()
    return Effect.annotateLogs(
      Effect.logWarning(
        `${this.name}: poll failed (attempt ${this.failures}, next in ${Duration.format(Duration.millis(wait))}): ${describe(cause)}`
      ),
      { "periscope.source": this.name, attempt: this.failures, waitMillis: wait }
    )
  }
}
