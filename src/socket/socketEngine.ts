/**
 * One socket: keeps a connection, takes in what it receives, and gives each finished item's ack to the connection that it came on.
 *
 * Frames are taken in as they come, without an effect. Everything else happens while there is a consumer, in its scope.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as WatchMetrics from "../core/WatchMetrics.js"
import { Conflated } from "../core/WatchStatus.js"
import type { Frame } from "./Connector.js"
import { Lanes } from "./lanes.js"
import type { Host } from "./link.js"
import { Link } from "./link.js"
import { Counts, Postponing } from "./postponing.js"
import type { Reconnecting } from "./reconnecting.js"
import * as socketError from "./socketError.js"
import type { SocketError } from "./socketError.js"
import type { Options, Settings } from "./socketOptions.js"
import type { SocketPhase, SocketStatus } from "./socketStatus.js"
import type { Entry } from "./window.js"
import { Window } from "./window.js"

type Reading<A> = Pick<Options<A>, "ack" | "decode" | "isRemembered" | "key" | "orderBy">

/** Of one order: `kept`: one item at a time is handed out, in order; `counted`: those in flight are counted; `none`: it is ignored. */
type Ordering = "kept" | "counted" | "none"

export class Engine<A> implements Host {
  readonly status: Conflated<SocketStatus>
  readonly window: Window<A>
  private readonly lanes = new Lanes<Entry<A>>()
  private phase: SocketPhase = { _tag: "Resting" }
  private link: Link | undefined
  private attempts = 0
  private connections = 0
  private receivedCount = 0
  private handedOut = 0
  private lastFrame: number | undefined
  private undecoded = 0
  private handlerFailures = 0
  private readonly postponing: Postponing
  private readonly counts = new Counts()
  /** Why it ended. */
  failure: Cause.Cause<SocketError> | undefined
  private isBusy = false
  private isDraining = false
  private ordering: Ordering = "none"
  private clock: Clock.Clock | undefined
  private scheduler: Scheduler.Scheduler | undefined
  private runtime: Runtime.Runtime<never> = Runtime.defaultRuntime
  private readonly idle: Array<() => void> = []
  private isWaking = false
  private isTurnDue = false
  /** When the first frame of this turn came, monotonic: a clock is not asked for each. */
  private turnAt: number | undefined
  /** What the metrics know of. */
  private told = { frames: 0, acks: 0, count: 0 }
  private acks = 0
  private hide: (() => void) | undefined

  constructor(
    readonly name: string,
    private readonly reading: Reading<A>,
    readonly settings: Settings
  ) {
    this.postponing = new Postponing(settings.maxInFlight)
    this.window = new Window(settings.windowSize, (one, other) => {
      const ack = this.ackText(one)
      return ack !== undefined && ack === this.ackText(other)
    })
    this.status = new Conflated(() => this.readStatus())
  }

  // ---------------------------------------------------------------- status

  private readStatus(): SocketStatus {
    const { phase } = this
    return {
      source: this.name,
      phase: phase._tag === "Open" ? { ...phase, isPaused: this.link?.isPaused ?? false } : phase,
      connections: this.connections,
      received: this.receivedCount,
      waiting: this.window.entries - this.handedOut,
      unacked: this.handedOut,
      lastFrame: Option.fromNullable(this.lastFrame),
      undecoded: this.undecoded,
      postponed: this.postponing.count,
      handlerFailures: this.handlerFailures
    }
  }

  private readonly metrics = (now: number): WatchMetrics.SocketMetrics => {
    const { lastFrame, phase, unacked, waiting } = this.readStatus()
    return {
      source: this.name,
      phase: phase._tag,
      stalenessMillis: Option.map(lastFrame, (at) => now - at),
      backoffMillis: phase._tag === "Waiting" ? Math.max(0, phase.until - now) : 0,
      waiting,
      unacked
    }
  }

  show(phase: SocketPhase): void {
    this.phase = phase
    this.status.touch()
  }

  /** Counts a failed or, with 0, a good attempt of the handler. */
  handlerFailed(failuresInARow: number): void {
    if (failuresInARow > 0) WatchMetrics.update(WatchMetrics.handlerFailures, 1)
    if (failuresInARow === this.handlerFailures) return
    this.handlerFailures = failuresInARow
    this.status.touch()
  }

  warn(message: string, annotations: Readonly<Record<string, unknown>> = {}): Effect.Effect<void> {
    return Effect.annotateLogs(Effect.logWarning(`${this.name}: ${message}`), {
      "periscope.source": this.name,
      ...annotations
    })
  }

  // ---------------------------------------------------------------- the consumer

  /** Takes the place of the one consumer until the scope closes, and connects. */
  consume(reconnecting: Reconnecting, ordering: Ordering): Effect.Effect<void, never, Scope.Scope> {
    const begin = Effect.gen(this, function* () {
      if (this.isBusy) {
        return yield* Effect.dieMessage(
          `ReconnectingSocket: "${this.name}" has a consumer already; a socket has one at a time, make a second one.`
        )
      }
      this.runtime = yield* Effect.runtime<never>()
      this.scheduler = FiberRefs.getOrDefault(this.runtime.fiberRefs, FiberRef.currentScheduler)
      this.clock = yield* Clock.clockWith(Effect.succeed)
      this.isBusy = true
      const isBounded = this.hasAcks && this.settings.maxPerOrder !== undefined
      this.ordering = ordering === "counted" && !isBounded ? "none" : ordering
      this.isDraining = false
      this.isWaking = false
      this.failure = undefined
      this.hide = WatchMetrics.registerSocket(this.metrics)
    })
    const leave = Effect.sync(() => {
      this.window.clear()
      this.lanes.clear()
      this.counts.clear()
      this.handedOut = 0
      this.turn()
      this.hide?.()
      this.isBusy = false
      if (this.phase._tag !== "Ended") this.show({ _tag: "Resting" })
      this.status.touch()
    })
    const connecting = reconnecting.run(this).pipe(
      Effect.catchAllCause((cause) => Effect.sync(() => this.stop(cause))),
      Effect.interruptible,
      Effect.forkScoped
    )
    return Effect.zipRight(
      Effect.acquireRelease(begin, () => leave),
      connecting
    )
  }

  /** The next item, marked as handed out. */
  take(): Entry<A> | undefined {
    const entry = this.lanes.take()
    if (entry === undefined) return undefined
    this.handedOut++
    if (this.hasNext) this.wakeOne()
    return entry
  }

  /** All that can be handed out. */
  takeAll(): ReadonlyArray<Entry<A>> {
    const all = this.lanes.takeAll()
    this.handedOut += all.length
    return all
  }

  get hasAcks(): boolean {
    return this.reading.ack !== undefined
  }

  get hasNext(): boolean {
    return this.lanes.readyCount > 0
  }

  /** Nothing will be handed out any more. */
  get isOver(): boolean {
    return (this.failure !== undefined || (this.isDraining && this.window.count === 0)) && !this.hasNext
  }

  private readonly awake = Effect.sync(() => {
    this.isWaking = false
  })

  /** Waits until something can be handed out, or nothing will be. */
  readonly waiting: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (this.hasNext || this.isOver) return resume(Effect.void)
    const wake = (): void => resume(this.awake)
    // one that was woken may have been interrupted instead
    this.isWaking = false
    this.idle.push(wake)
    return Effect.sync(() => {
      const at = this.idle.indexOf(wake)
      if (at >= 0) this.idle.splice(at, 1)
    })
  })

  /**
   * Wakes one worker. Whoever takes an item wakes the next one, and only one is waking up at any time: a worker whose handlers end
   * at once takes all by itself, and the others sleep on.
   */
  private wakeOne(): void {
    if (this.isWaking) return
    const wake = this.idle.pop()
    if (wake === undefined) return
    this.isWaking = true
    wake()
  }

  private wakeAll(): void {
    for (const wake of this.idle.splice(0)) wake()
  }

  /** Ends it, but for its consumer's own end. What was received before is handed out first. */
  private stop(cause: Cause.Cause<SocketError>): void {
    this.failure = socketError.fromWithin(cause)
    this.show({ _tag: "Ended", error: Cause.failureOption(cause) })
    this.wakeAll()
  }

  get drain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.isBusy) return Effect.void
      this.isDraining = true
      // what nobody has begun with comes again, where there are acks
      if (this.hasAcks) {
        for (const entry of this.lanes.drain()) this.window.forget(entry)
      }
      this.ended()
      return this.status.until(() => !this.isBusy)
    })
  }

  private ended(): void {
    if (!this.isDraining || this.window.count > 0) return
    this.show({ _tag: "Ended", error: Option.none() })
    this.wakeAll()
  }

  // ---------------------------------------------------------------- finishing

  /** It was handled: its ack goes to the connection that it was last received on, if that is still there. */
  finish(entry: Entry<A>): void {
    const isFirst = this.window.finish(entry)
    if (!isFirst) return
    // first, as `ack` is not ours and may throw
    this.left(entry)
    if (this.link?.number === entry.connection) {
      this.ack(this.link, entry.received)
      if (entry.again !== undefined) for (const item of entry.again) this.ack(this.link, item)
    }
  }

  /** It was not: when it comes again, it is handed out again. */
  forget(entry: Entry<A>): void {
    if (this.window.forget(entry)) this.left(entry)
  }

  private left(entry: Entry<A>): void {
    this.handedOut--
    const { order } = entry
    if (order !== undefined) {
      if (this.ordering === "counted") this.counts.remove(order)
      else if (this.lanes.release(order)) this.wakeOne()
    }
    this.dueTurn()
  }

  private ack(link: Link, item: A): void {
    const { ack } = this.reading
    if (ack === undefined || link.isDead) return
    const frame = ack(item)
    if (frame === undefined) return
    this.acks++
    link.push(frame)
  }

  /** At the end of this turn of the scheduler, once for all that happens in it. */
  private dueTurn(): void {
    if (this.isTurnDue) return
    this.isTurnDue = true
    this.scheduler!.scheduleTask(() => this.turn(), 0)
  }

  private turn(): void {
    this.isTurnDue = false
    this.turnAt = undefined
    const { link, told } = this
    if (link !== undefined) {
      link.flush()
      this.relieve(link)
    }
    const now = { frames: this.receivedCount, acks: this.acks, count: this.window.count }
    this.told = now
    if (now.frames > told.frames) {
      this.lastFrame = this.now()
      WatchMetrics.update(WatchMetrics.socketFrames, now.frames - told.frames)
    }
    if (now.acks > told.acks) WatchMetrics.update(WatchMetrics.socketAcks, now.acks - told.acks)
    if (now.count !== told.count) WatchMetrics.addUnacked(now.count - told.count)
    this.ended()
    this.status.touch()
  }

  // ---------------------------------------------------------------- the connection

  now(): number {
    return this.clock!.unsafeCurrentTimeMillis()
  }

  monotonic(): number {
    return Number(this.clock!.unsafeCurrentTimeNanos()) / 1_000_000
  }

  makeLink(): Link {
    return new Link(this, ++this.attempts)
  }

  opened(link: Link): void {
    this.link = link
    this.connections++
    this.show({ _tag: "Open", since: link.openedAt, isPaused: false })
    if (this.isFull) this.hold(link)
  }

  closed(link: Link): void {
    link.isDead = true
    this.postponing.clear()
    if (this.link === link) this.link = undefined
  }

  received(link: Link, frame: Frame): void {
    link.lastAlive = this.turnAt ??= this.monotonic()
    this.dueTurn()
    if (this.isDraining) return
    this.receivedCount++
    const taken = Either.try({ try: () => this.takeIn(link, frame), catch: (thrown) => thrown })
    if (Either.isLeft(taken)) this.notDecoded(link, taken.left)
    else if (this.isFull) this.hold(link)
  }

  private takeIn(link: Link, frame: Frame): void {
    const { decode, isRemembered, key, orderBy } = this.reading
    const item = decode(frame)
    const order = this.ordering !== "none" && orderBy !== undefined ? orderBy(item) : undefined
    const isFull = order !== undefined && this.isCrowded(order)
    const mayPostpone = order !== undefined && (isFull || this.postponing.has(order))
    // before it is taken in, as `ack` is not ours and may throw
    const ack = mayPostpone ? this.ackText(item) : undefined
    const offered = this.window.offer(item, key?.(item), order, frame.length, link.number, isRemembered?.(item))
    if (offered === "open") return
    if (offered === "done") return this.ack(link, item)
    if (mayPostpone && this.postponing.postpones(order, ack, isFull)) return void this.window.forget(offered)
    if (order !== undefined && this.ordering === "counted") this.counts.add(order)
    if (this.lanes.push(offered, this.ordering === "kept" ? order : undefined)) this.wakeOne()
  }

  /** Whether as many of that order wait behind the first one as may. */
  private isCrowded(order: string): boolean {
    const { maxPerOrder } = this.settings
    if (maxPerOrder === undefined) return false
    return this.ordering === "kept" ? this.lanes.isFull(order, maxPerOrder) : this.counts.of(order) > maxPerOrder
  }

  /** What an ack says, as far as it can be compared. `undefined`: there is none, or it is binary. */
  private ackText(item: A): string | undefined {
    const frame = this.reading.ack?.(item)
    return typeof frame === "string" ? frame : undefined
  }

  private notDecoded(link: Link, thrown: unknown): void {
    const what = `${socketError.kindOf(thrown)} was thrown`
    if (!this.settings.skipsUndecoded) {
      return link.end(socketError.of(this.name, "Decode", `a frame cannot be read: ${what}`))
    }
    this.undecoded++
    Runtime.runFork(this.runtime, this.warn(`a frame is skipped, as it cannot be read: ${what}`))
  }

  private get isFull(): boolean {
    const { maxInFlight, maxInFlightBytes } = this.settings
    return this.window.count >= maxInFlight || this.window.bytes >= maxInFlightBytes
  }

  /** Reads no more for now; or, where that is impossible, ends the connection. */
  private hold(link: Link): void {
    if (link.connection!.canPause) link.pause()
    else {
      // else a server that sends the same again each time would never get on
      link.flush()
      link.end(
        socketError.of(
          this.name,
          "Overflow",
          `the consumer fell behind by ${this.window.count} items, and this WebSocket cannot be paused; raise \`maxInFlight\`, or provide NodeConnector.layer on Node.`
        )
      )
    }
  }

  drained(link: Link): void {
    this.relieve(link)
  }

  /** Reads on when half of what is too much is gone, so that it is not paused and resumed for each item. */
  private relieve(link: Link): void {
    if (link.isDead) return
    const { maxInFlight, maxInFlightBytes, maxUnsentBytes } = this.settings
    const unsent = link.lookUnsent()
    if (unsent > maxUnsentBytes) {
      link.backlogSince ??= this.monotonic()
      return this.hold(link)
    }
    if (unsent * 2 <= maxUnsentBytes) link.backlogSince = undefined
    if (!link.isPaused || link.backlogSince !== undefined) return
    if (this.window.count * 2 <= maxInFlight && this.window.bytes * 2 <= maxInFlightBytes) link.resume()
  }
}
