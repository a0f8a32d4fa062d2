/**
 * The delivery of one watcher: accepts what polls found, hands it out in order, takes commits, and keeps all of it in the
 * checkpoint.
 *
 * What a poll found becomes state together with its batch, or not at all; a batch is forgotten only behind the prefix of
 * commits.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Utils from "effect/Utils"
import type * as Change from "./Change.js"
import { CheckpointError } from "./Checkpoints.js"
import type { Definition, Poll, Undelivered } from "./definition.js"
import { identityIn } from "./definition.js"
import { describe } from "./describe.js"
import type { Ledger, Numbered, Parked, Rules } from "./ledger.js"
import * as ledger from "./ledger.js"
import type { Passed } from "./passing.js"
import type { Recorder } from "./record.js"
import type { Settings } from "./settings.js"
import { saveBackoff } from "./settings.js"
import * as WatchMetrics from "./WatchMetrics.js"
import { within } from "./within.js"

/** The rules of delivery that a watcher uses; replaced only to prove that a mistake in them is caught. */
export class DeliveryRules extends Context.Reference<DeliveryRules>()("effect-periscope/core/DeliveryRules", {
  defaultValue: (): Rules => ledger.rules
}) {}

/** A batch that was handed out; `parked` is the id of a parked change that is tried again. */
export interface Handed<A> {
  readonly n: number
  readonly changes: ReadonlyArray<Change.Change<A>>
  /** The stored forms of `changes`. */
  readonly stored: ReadonlyArray<Change.Change<unknown>>
  readonly ids: ReadonlyArray<string>
  readonly observedAt: number
  readonly redelivered: boolean
  readonly parked: string | undefined
}

/** Makes a batch ready to be handed out. */
type Handing<A> = Generator<Utils.YieldWrap<Effect.Effect<unknown, CheckpointError>>, Handed<A>, unknown>

/** What a poll found, and which of its changes are delivered as what: all as they are where that is not told. */
export interface Found {
  readonly result: Poll<unknown, unknown>
  readonly passed: Passed | undefined
}

/** A claimed checkpoint: what was in it, if anything. */
export interface Opened {
  readonly recorder: Recorder<unknown, unknown>
  readonly ledger: Ledger<unknown, unknown> | undefined
  /** Undelivered changes whose values no longer decode. */
  readonly undecodable: ReadonlyArray<Undelivered>
}

/** What delivery tells the watcher that it belongs to. */
export interface Host {
  /** Something in the status changed. */
  readonly touch: () => void
  /** A commit was taken, or there is something to hand out. */
  readonly wake: () => void
  /** The checkpoint can never be saved again. */
  readonly stop: (cause: Cause.Cause<CheckpointError>) => void
}

export class Delivery<A> {
  state: unknown
  ledger: Ledger<unknown, unknown>
  /** Saves that fail at the moment. */
  saveFailure: { readonly attempt: number; readonly until: number; readonly error: Cause.Cause<unknown> } | undefined

  private recorder: Recorder<unknown, unknown> | undefined
  private readonly lock: Effect.Semaphore | undefined
  /** The last batch that the consumer of now, and any consumer before, was handed. */
  private handed = 0
  private everHanded = 0
  private readonly redriving: Array<string> = []
  /** What of the batches that were handed out cannot be delivered. */
  private readonly asideOf = new Map<number, ReadonlyArray<Parked<unknown>>>()
  private readonly pending = new Map<number, ReadonlyArray<Parked<unknown>>>()
  private dirtySince: number | undefined
  /** What the checkpoint holds for sure. */
  private saved: unknown

  constructor(
    private readonly definition: Definition<A, unknown, never>,
    private readonly settings: Settings,
    private readonly rules: Rules,
    private readonly host: Host,
    isDurable: boolean
  ) {
    this.state = definition.initial
    this.ledger = ledger.make(definition.durable(definition.initial))
    this.lock = isDurable ? Effect.unsafeMakeSemaphore(1) : undefined
  }

  /** Takes over what a checkpoint holds. */
  open({ ledger: loaded, recorder, undecodable }: Opened): Effect.Effect<void, CheckpointError> {
    this.recorder = recorder
    this.saved = this.ledger.durable
    if (loaded !== undefined) {
      this.ledger = loaded
      this.saved = loaded.durable
      this.state = this.definition.restore(loaded.durable)
      this.everHanded = loaded.next - 1
      this.begin()
    }
    return undecodable.length === 0 ? Effect.void : this.rewind(undecodable)
  }

  /** A new consumer: what is not committed is handed out again. */
  begin(): void {
    this.handed = this.ledger.prefix
  }

  /** Behind it nothing is polled again, also after a crash. */
  get committed(): unknown {
    return this.recorder === undefined ? this.ledger.durable : this.saved
  }

  get inFlight(): number {
    return ledger.inFlight(this.ledger, this.handed)
  }

  /** Batches that overtook an uncommitted one count: they stay in the outbox with it. */
  get isFull(): boolean {
    return this.handed - this.ledger.prefix >= this.settings.maxInFlight
  }

  private get isUnfinishedBaseline(): boolean {
    return this.settings.suppress && !this.ledger.synced
  }

  // ---------------------------------------------------------------- accepting

  /** Whether one more change can be put aside, when `others` of the same poll are. */
  hasRoomAside(others: number): boolean {
    return this.ledger.parked.length + this.aside + others < this.settings.maxParked
  }

  /** How many changes wait for the commit of their batch to be parked. */
  get aside(): number {
    let count = 0
    for (const { first, known, size } of this.ledger.groups) {
      for (const index of known?.errors?.keys() ?? []) {
        if (!ledger.isCommitted(this.ledger, first + Math.floor(index / size))) count++
      }
    }
    return count
  }

  /** Takes in what a poll found: the next state and its batch together, or neither. */
  accept(found: Found, now: number): Effect.Effect<void, CheckpointError> {
    let given: Found | undefined = found
    return this.locked(
      Effect.suspend(() => {
        const { passed, result } = given!
        // what waited for a lock is kept until the old generation is collected, and a poll can be large
        given = undefined
        const before = this.ledger
        const state = this.definition.durable(result.state)
        const synced = before.synced || result.more !== true
        const changes = this.isUnfinishedBaseline ? [] : (passed?.stored ?? result.changes)
        const positions = passed?.positions
        const { nameOf, stateAfter } = result
        const at = (index: number): number => positions?.[index] ?? index
        const next =
          changes.length === 0
            ? ledger.advance(before, state, synced)
            : ledger.accept(before, {
                changes,
                size: Math.min(this.settings.batchSize, changes.length),
                observedAt: now,
                durable: state,
                synced,
                durableAfter: !this.definition.replays
                  ? undefined
                  : (index) =>
                      stateAfter === undefined ? before.durable : this.definition.durable(stateAfter(at(index))),
                known: {
                  delivered: passed?.delivered,
                  errors: passed?.errors,
                  nameOf: nameOf === undefined ? undefined : (index) => nameOf(at(index))
                }
              })
        const saves = this.savesOf(next, result.save === true, now)
        const install = (): void => {
          const isUnsaved = saves.length === 0 && next.durable !== before.durable
          if (isUnsaved && !(this.settings.suppress && !next.synced)) this.dirtySince ??= now
          this.ledger = next
          this.state = result.state
        }
        if (saves.length > 0) {
          const persisted = Effect.forEach(saves, (save) => this.persist(save), { discard: true })
          return Effect.uninterruptible(Effect.map(persisted, install))
        }
        install()
        return Effect.void
      })
    )
  }

  /** What must be durable before the poll counts. */
  private savesOf(
    next: Ledger<unknown, unknown>,
    isAsked: boolean,
    now: number
  ): ReadonlyArray<Ledger<unknown, unknown>> {
    const { ledger: before, recorder } = this
    if (recorder === undefined) return []
    const isStale = this.dirtySince !== undefined && now - this.dirtySince >= this.settings.saveInterval
    if (next === before) return isStale ? [next] : []
    if (next.next !== before.next) return this.definition.replays ? [] : this.rules.toAccept(before, next)
    if (this.settings.suppress && !next.synced) return []
    const isFirst = recorder.isEmpty && next.durable !== before.durable
    return next.synced !== before.synced || isAsked || isStale || isFirst ? [next] : []
  }

  // ---------------------------------------------------------------- handing out

  /** Whether {@link take} has something to look at. */
  get hasNext(): boolean {
    return this.redriving.length > 0 || (!this.isFull && ledger.nextBatch(this.ledger, this.handed) !== undefined)
  }

  /** The next batch, if there is one and there is room for it. */
  take(): Effect.Effect<Handed<A> | undefined, CheckpointError> {
    return Effect.gen(this, function* () {
      for (;;) {
        const parked = yield* this.takeParked()
        if (parked !== undefined) return parked
        if (this.isFull) return undefined
        const batch = ledger.nextBatch(this.ledger, this.handed)
        if (batch === undefined) return undefined
        const handed = yield* Effect.gen(this, () => this.toHand(batch))
        this.handed = batch.n
        this.everHanded = Math.max(this.everHanded, batch.n)
        if (handed.changes.length > 0) return handed
        yield* this.commit(batch.n)
      }
    })
  }

  /** A generator of its own: a closure made for each batch would keep it until the old generation is collected. */
  private *toHand(batch: Numbered<unknown>): Handing<A> {
    const { from, known, n, observedAt } = batch
    const redelivered = batch.redelivered || n <= this.everHanded
    const changes: Array<Change.Change<A>> = []
    const stored: Array<Change.Change<unknown>> = []
    const ids: Array<string> = []
    const undeliverable: Array<Undelivered> = []
    const aside: Array<Parked<unknown>> = []
    const idOf = this.namesIn(batch)
    for (let index = 0; index < batch.changes.length; index++) {
      const change = batch.changes[index]
      if (change === undefined) continue
      const error = known?.errors?.get(from + index)
      if (error !== undefined) {
        // a later one of its key takes its place, whatever becomes of that
        if (batch.changes.some((later, place) => place > index && later?.key === change.key)) continue
        const parkedAt = yield* Clock.currentTimeMillis
        aside.push({ id: idOf(index, change), change, error: describe(error), observedAt, parkedAt })
        continue
      }
      const passed =
        this.definition.change === undefined
          ? (change as Change.Change<A>)
          : ((known?.delivered?.[from + index] as Change.Change<A> | undefined) ?? (yield* this.deliverable(change)))
      if (passed === "undeliverable") {
        undeliverable.push(change)
      } else if (passed !== undefined) {
        changes.push(passed)
        stored.push(change)
        ids.push(idOf(index, change))
      }
    }
    if (undeliverable.length > 0) yield* this.rewind(undeliverable)
    if (aside.length > 0) this.asideOf.set(n, aside)
    return { n, changes, stored, ids, observedAt, redelivered, parked: undefined }
  }

  /** What the changes of a batch are called. */
  private namesIn({ from, known, n }: Numbered<unknown>): (index: number, change: Change.Change<unknown>) => string {
    const identity = identityIn(this.definition.identity, Context.empty())
    if (!this.definition.replays) return (index) => `${identity}:${n}:${index}`
    // what a log gives again may come in other batches: its place in the log is what stays
    return (index, { key }) => `${identity}:${known?.nameOf?.(from + index) ?? key}`
  }

  /** What a stored change is delivered as, made again after a restart. */
  private deliverable(
    change: Change.Change<unknown>,
    instead = "its key is observed again"
  ): Effect.Effect<Change.Change<A> | "undeliverable" | undefined> {
    const { change: transform } = this.definition
    if (transform === undefined) return Effect.succeed(change as Change.Change<A>)
    const passing = Effect.suspend(() => transform(change))
    return Effect.catchAllCause(Effect.map(passing, Option.getOrUndefined), (cause) =>
      // no later observation would find that a key is gone: that is delivered without the value it had
      change._tag === "Removed" && Option.isSome(change.previous)
        ? this.deliverable({ ...change, previous: Option.none() })
        : Effect.as(
            Effect.logError(
              `${this.definition.name}: an undelivered change of "${change.key}" can no longer be delivered, ${instead}: ${describe(cause)}`
            ),
            "undeliverable" as const
          )
    )
  }

  /** Forgets what is known of keys whose values can no longer be delivered, so that they are observed again. */
  private rewind(lost: ReadonlyArray<Undelivered>): Effect.Effect<void, CheckpointError> {
    return this.locked(
      Effect.suspend(() => {
        const state = this.definition.rewind(this.state, lost)
        return this.replace({ ...this.ledger, durable: this.definition.durable(state) }, () => {
          this.state = state
        })
      })
    )
  }

  // ---------------------------------------------------------------- commits

  /** Commits a batch; those of its changes that failed for good are parked with the same save. */
  commit(n: number, failed: ReadonlyArray<Parked<unknown>> = []): Effect.Effect<void, CheckpointError> {
    return Effect.suspend(() => {
      this.pending.set(n, failed)
      if (this.recorder === undefined) {
        this.ledger = this.withPending()
        this.taken(this.pending.keys())
        this.host.wake()
        return Effect.void
      }
      // commits that arrive while a save is under way share the next one
      return Effect.onInterrupt(
        this.locked(Effect.suspend(() => (this.pending.has(n) ? this.savePending() : Effect.void))),
        () => Effect.sync(() => void this.pending.delete(n))
      )
    })
  }

  private savePending(): Effect.Effect<void, CheckpointError> {
    const taken = [...this.pending.keys()]
    return this.replace(this.withPending(), () => this.taken(taken))
  }

  private taken(batches: Iterable<number>): void {
    for (const n of batches) {
      this.pending.delete(n)
      this.asideOf.delete(n)
    }
  }

  private withPending(): Ledger<unknown, unknown> {
    let next = this.ledger
    for (const [n, failed] of this.pending) {
      if (ledger.isCommitted(next, n)) continue
      const delivered = next.parked.length === 0 ? new Set<string>() : this.keysOf([n])
      next = ledger.park(next, delivered, this.toPark(n, failed))
    }
    return this.rules.commit(next, this.pending.keys())
  }

  /** What is parked with the commit of a batch: the newest of each key, nothing that a newer one of its key overtook. */
  private toPark(n: number, failed: ReadonlyArray<Parked<unknown>>): ReadonlyArray<Parked<unknown>> {
    const aside = this.asideOf.get(n)
    if (aside === undefined) return failed
    const newer = this.keysOf([...this.ledger.above, ...this.pending.keys()].filter((other) => other > n))
    const kept = aside.filter(({ change }) => !newer.has(change.key))
    const keys = new Set(kept.map(({ change }) => change.key))
    return [...kept, ...failed.filter(({ change }) => !keys.has(change.key))]
  }

  /** The keys of batches above the prefix. */
  private keysOf(batches: ReadonlyArray<number>): ReadonlySet<string> {
    const changes = batches.flatMap((n) => ledger.changesOf(this.ledger, n))
    return new Set(changes.flatMap((change) => (change === undefined ? [] : [change.key])))
  }

  /** Commits all that was handed out; for consumers without a checkpoint, who have no way to say so themselves. */
  commitHanded(): void {
    if (this.handed === this.ledger.prefix) return
    for (let n = this.ledger.prefix + 1; n <= this.handed; n++) this.pending.set(n, [])
    this.ledger = this.withPending()
    this.taken(this.pending.keys())
    this.host.wake()
  }

  /** Whether commits are being saved. */
  get isSettling(): boolean {
    return this.pending.size > 0
  }

  /** Waits for commits that are being saved. */
  get settled(): Effect.Effect<void> {
    return this.locked(Effect.void)
  }

  // ---------------------------------------------------------------- parked changes

  private takeParked(): Effect.Effect<Handed<A> | undefined> {
    return Effect.gen(this, function* () {
      for (let id = this.redriving.shift(); id !== undefined; id = this.redriving.shift()) {
        const entry = this.ledger.parked.find((parked) => parked.id === id)
        if (entry === undefined) continue
        const { change, observedAt } = entry
        const passed = yield* this.deliverable(change, "it stays parked")
        if (passed === undefined || passed === "undeliverable") continue
        return { n: 0, changes: [passed], stored: [change], ids: [id], observedAt, redelivered: true, parked: id }
      }
      return undefined
    })
  }

  /** Lets the consumer try a parked change again. */
  redrive(id: string): boolean {
    if (!this.ledger.parked.some((entry) => entry.id === id)) return false
    if (!this.redriving.includes(id)) this.redriving.push(id)
    this.host.wake()
    return true
  }

  /** Takes a change off the list of parked ones. */
  unpark(id: string): Effect.Effect<boolean, CheckpointError> {
    return this.locked(
      Effect.suspend(() => {
        const next = ledger.unpark(this.ledger, id)
        return next === this.ledger ? Effect.succeed(false) : Effect.as(this.replace(next), true)
      })
    )
  }

  // ---------------------------------------------------------------- saving

  private locked<B, E2>(effect: Effect.Effect<B, E2>): Effect.Effect<B, E2> {
    return this.lock === undefined ? effect : this.lock.withPermits(1)(effect)
  }

  /** Installs a ledger, saved before if what it saves is another than before. */
  private replace(
    next: Ledger<unknown, unknown>,
    onInstall: () => void = () => {}
  ): Effect.Effect<void, CheckpointError> {
    const { ledger: before } = this
    const isSame = next.prefix === before.prefix && next.parked === before.parked && next.durable === before.durable
    return Effect.uninterruptibleMask((restore) =>
      Effect.map(isSame ? Effect.void : this.persistUntilDone(next, restore), () => {
        this.ledger = next
        onInstall()
        this.host.wake()
      })
    )
  }

  /** Saves a ledger, once. One that takes too long is interrupted if it still waits for its turn, else left behind. */
  private persist(next: Ledger<unknown, unknown>): Effect.Effect<void, CheckpointError> {
    const { recorder } = this
    if (recorder === undefined) return Effect.void
    const millis = this.settings.saveTimeout
    return Effect.flatMap(within(recorder.save(next), millis), (outcome) => {
      if (typeof outcome !== "string" && Exit.isSuccess(outcome)) {
        this.dirtySince = undefined
        this.saved = next.durable
        return outcome
      }
      WatchMetrics.update(WatchMetrics.saveFailures, 1)
      if (typeof outcome !== "string") return outcome
      const { name } = this.definition
      return new CheckpointError({
        reason: "Timeout",
        checkpoint: name,
        message: `${name}: the checkpoint was not saved within ${Duration.format(Duration.millis(millis))}.`
      })
    })
  }

  /** Saves a ledger, again and again while the store is unavailable. Only the waits between are interruptible. */
  private persistUntilDone(
    next: Ledger<unknown, unknown>,
    restore: <B, E2>(effect: Effect.Effect<B, E2>) => Effect.Effect<B, E2>
  ): Effect.Effect<void, CheckpointError> {
    return Effect.gen(this, function* () {
      for (let attempt = 1; ; attempt++) {
        const exit = yield* Effect.exit(this.persist(next))
        if (Exit.isSuccess(exit)) {
          this.saveFailure = undefined
          return
        }
        const error = Cause.failureOption(exit.cause)
        if (Option.isSome(error) && !error.value.isRetryable) {
          this.host.stop(exit.cause)
          return yield* Effect.failCause(exit.cause)
        }
        const wait = saveBackoff(attempt)
        this.saveFailure = { attempt, until: (yield* Clock.currentTimeMillis) + wait, error: exit.cause }
        this.host.touch()
        yield* Effect.annotateLogs(
          Effect.logWarning(
            `${this.definition.name}: the checkpoint could not be saved (attempt ${attempt}, next in ${wait} ms): ${describe(exit.cause)}`
          ),
          { "periscope.source": this.definition.name, attempt, waitMillis: wait }
        )
        yield* Effect.onInterrupt(restore(Effect.sleep(wait)), () =>
          Effect.sync(() => {
            this.saveFailure = undefined
          })
        )
      }
    })
  }

  /** Saves what is not saved yet. Losing this save costs a repeated observation, no change. */
  get flush(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.dirtySince === undefined
        ? Effect.void
        : Effect.catchAll(this.locked(Effect.suspend(() => this.persist(this.ledger))), (error) =>
            Effect.logWarning(error.message)
          )
    )
  }
}
