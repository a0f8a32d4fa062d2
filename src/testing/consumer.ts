/**
 * The consumer of a trial: a loop over changes, a loop over batches, or batches that are committed in any order. It tells the
 * judge what it was handed and what it has committed, and nothing of how.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as Change from "../core/Change.js"
import type * as Watcher from "../core/Watcher.js"
import type { Chance } from "./chance.js"
import type { Incarnation } from "./incarnation.js"
import type { Mode, Oracle } from "./oracle.js"

export interface ConsumerHost<A> {
  readonly mode: Mode
  readonly oracle: Oracle<A>
  readonly chance: Chance
  readonly faults: number
  readonly interval: number
  readonly point: (label: string) => Effect.Effect<void>
  readonly fault: (kind: string, probability: number) => boolean
  readonly note: (line: () => string) => void
  readonly isCalm: () => boolean
  /** Reads the clock for the trace. */
  readonly tick: Effect.Effect<void>
  readonly handler: ((change: Change.Change<A>, delivery: Watcher.Delivery) => Effect.Effect<void>) | undefined
}

export type Kind = "runForEach" | "runForEachBatch" | "batches"

export class Consumer<A> {
  delivered = 0
  /** What a loop is handling, by position. */
  private running: ReadonlyArray<number> = []

  constructor(
    private readonly host: ConsumerHost<A>,
    private readonly kind: Kind,
    private readonly parks: boolean
  ) {}

  /** Consumes one watcher, as long as its life lasts. */
  consume(watcher: Watcher.Watcher<A, unknown>, life: Incarnation): Effect.Effect<void, unknown> {
    this.running = []
    if (this.kind === "batches") return this.commitInAnyOrder(watcher)
    return this.kind === "runForEach" ? this.forEach(watcher, life) : this.forEachBatch(watcher, life)
  }

  private handedOut(n: number | undefined, id: string, change: Change.Change<A>, redelivered: boolean): number {
    this.delivered++
    this.host.note(() => `  handed out ${id}: ${change._tag} ${change.key}${redelivered ? " (redelivered)" : ""}`)
    return this.host.oracle.handed({ n, id, change, redelivered })
  }

  private batchHandedOut(batch: Omit<Watcher.Batch<A>, "commit">): ReadonlyArray<number> {
    return batch.changes.map((change, index) => this.handedOut(batch.n, batch.ids[index]!, change, batch.redelivered))
  }

  private committed(positions: Iterable<number>): void {
    this.host.oracle.committing(positions)
    this.host.note(() => `  committed ${[...new Set(positions)].join(" ")}`)
  }

  private pausing(most: number): Effect.Effect<void> {
    return this.host.isCalm() || this.host.chance.happens(0.5)
      ? Effect.void
      : Effect.sleep(this.host.chance.below(most))
  }

  private readonly handle = (change: Change.Change<A>, delivery: Watcher.Delivery): Effect.Effect<void> =>
    this.host.handler?.(change, delivery) ?? Effect.void

  /** A loop comes back for more: what it was handed before is committed. */
  settled(): void {
    if (this.running.length === 0) return
    this.committed(this.running)
    this.running = []
  }

  /** Each change by itself. */
  private forEach(watcher: Watcher.Watcher<A, unknown>, life: Incarnation) {
    return watcher.runForEach(
      (change, delivery) =>
        Effect.gen(this, function* () {
          yield* this.host.point("hand-out")
          yield* this.host.tick
          const { id, redelivered } = delivery
          const n = this.host.mode === "log" ? undefined : Number(id.split(":").at(-2))
          if (n === undefined || n !== this.running[0]) this.settled()
          const position = this.handedOut(n, id, change, redelivered)
          if (position > 0) this.running = [position]
          yield* this.host.point("handler")
          yield* this.pausing(2_000)
          yield* this.host.point("in handler")
          if (this.host.fault("handler fails", this.host.faults)) {
            if (!this.parks) life.mayEnd = "handler fails"
            if (this.parks && position > 0) this.host.oracle.attempting([position])
            return yield* Effect.fail("the handler fails" as const)
          }
          yield* this.handle(change, delivery)
          this.host.oracle.handled(change)
          if (position > 0) this.host.oracle.attempting([position])
          yield* this.host.point("handled")
        }),
      { onFailure: this.parks ? "park" : "stop" }
    )
  }

  private forEachBatch(watcher: Watcher.Watcher<A, unknown>, life: Incarnation) {
    return watcher.runForEachBatch((batch) =>
      Effect.gen(this, function* () {
        yield* this.host.point("hand-out")
        yield* this.host.tick
        this.settled()
        const positions = (this.running = this.batchHandedOut(batch))
        yield* this.host.point("handler")
        yield* this.pausing(4_000)
        yield* this.host.point("in handler")
        if (this.host.fault("handler fails", this.host.faults)) {
          life.mayEnd = "handler fails"
          return yield* Effect.fail("the handler fails" as const)
        }
        for (let index = 0; index < batch.changes.length; index++) {
          const { observedAt, redelivered } = batch
          yield* this.handle(batch.changes[index]!, { id: batch.ids[index]!, observedAt, redelivered })
          this.host.oracle.handled(batch.changes[index]!)
        }
        this.host.oracle.attempting(positions)
        yield* this.host.point("handled")
      })
    )
  }

  /** Batches that are committed in any order, several at a time. */
  private commitInAnyOrder(watcher: Watcher.Watcher<A, unknown>) {
    return Stream.runForEach(watcher.batches, (batch) =>
      Effect.gen(this, function* () {
        yield* this.host.point("hand-out")
        yield* this.host.tick
        const positions = this.batchHandedOut(batch)
        for (let index = 0; index < batch.changes.length; index++) {
          this.host.oracle.handled(batch.changes[index]!)
        }
        const settle = Effect.gen(this, function* () {
          yield* this.pausing(3 * this.host.interval)
          yield* this.host.point("commit")
          this.host.oracle.attempting(positions)
          yield* batch.commit
          yield* this.host.tick
          this.committed(positions)
          yield* this.host.point("committed")
        })
        yield* Effect.fork(settle)
      })
    )
  }
}
