/**
 * Handles batches and keeps their checkpoint in the same transactions of one database.
 *
 * Whatever is not known to be committed is forgotten: the watcher is made again from what the database holds, so its memory is
 * never ahead of that.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Change from "../core/Change.js"
import type { Failure, Guarantees, OpenRecord, RecordStore } from "../core/Checkpoints.js"
import { CheckpointError, Checkpoints, fromRecords } from "../core/Checkpoints.js"
import type { Watchable } from "../core/Source.js"
import * as Watcher from "../core/Watcher.js"
import type { SqlRecords } from "./sqlRecords.js"
import { guarded, inTransaction, isConstraint, isSqlError, problemOf, RolledBack } from "./sqlTransaction.js"

export const guarantees: Guarantees = { survives: "backend", fence: "store" }

/** The one record of a watch, which all its watchers claim one after the other. */
class Owned {
  readonly records: RecordStore
  /** Of the claim that lives now. */
  fence: number | undefined
  /** Why the save of this batch failed. */
  broken: Failure | undefined
  private isInBatch = false
  /** Fences that the record can have while it is still ours; none: it was not ours yet. */
  private fences: ReadonlyArray<number> = []
  /** One that was given out and may have been stored. */
  private unused: number | undefined

  constructor(private readonly sqlRecords: SqlRecords) {
    this.records = {
      ...sqlRecords,
      nextFence: Effect.suspend(() =>
        this.unused === undefined
          ? Effect.tap(sqlRecords.nextFence, (fence) => {
              this.unused = fence
            })
          : Effect.succeed(this.unused)
      ),
      open: (checkpoint, fence) => this.open(checkpoint, fence)
    }
  }

  /** Whether it was ours before, and is to be claimed again. */
  get isAway(): boolean {
    return this.fences.length > 0 && this.fence === undefined
  }

  /** Says that what `commit` saves belongs to the transaction of a batch. */
  inBatch<E>(commit: Effect.Effect<void, E>): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      this.isInBatch = true
      return Effect.ensuring(
        commit,
        Effect.sync(() => {
          this.isInBatch = false
        })
      )
    })
  }

  private open(checkpoint: string, fence: number): Effect.Effect<OpenRecord, Failure> {
    // a second claim of ours is no younger owner: it must not end one that came meanwhile
    const owned = this.isAway ? [...this.fences, fence] : undefined
    return Effect.map(this.sqlRecords.takeOver(checkpoint, fence, owned), ({ save, stored }) => {
      this.fence = fence
      this.fences = [fence]
      this.unused = undefined
      this.broken = undefined
      return { stored, save: (next) => this.save(save(next)) }
    })
  }

  private save(saving: Effect.Effect<void, Failure>): Effect.Effect<void, Failure> {
    return Effect.suspend(() =>
      this.broken !== undefined
        ? Effect.fail(ended(this.broken))
        : Effect.catchAll(saving, (failure) => {
            if (!this.isInBatch) return Effect.fail(failure)
            // the transaction can only be rolled back now: to save again within it is of no use
            this.broken = failure
            return Effect.fail(ended(failure))
          })
    )
  }
}

const ended = ({ message }: Failure): Failure => ({ reason: "Fenced", message: `the batch is rolled back: ${message}` })

/** The wait before the `failures`-th new start in a row: 100 ms doubling to 30 s. */
const wait = (failures: number): number => Math.min(50 * 2 ** failures, 30_000)

type Handler<A, X, E, R> = (change: Change.Change<A>, delivery: Watcher.Delivery) => Effect.Effect<X, E, R>

/** What became of a batch: committed, to be seen again in the next life of the watcher, or the end of the watch. */
type Verdict =
  | { readonly _tag: "Committed" }
  | { readonly _tag: "Unknown"; readonly problem: string }
  | { readonly _tag: "Over"; readonly error: SqlError | CheckpointError }

type Unknown = Extract<Verdict, { _tag: "Unknown" }>

const unknown = (problem: string): Unknown => ({ _tag: "Unknown", problem })

const judge = (error: CheckpointError | Failure | RolledBack | SqlError, checkpoint: string): Verdict => {
  if (isSqlError(error)) return isConstraint(error) ? { _tag: "Over", error } : unknown(problemOf(error))
  if ("_tag" in error && error._tag === "RolledBack") return unknown(error.message)
  const { message, reason } = error
  if (reason === "Unavailable" || reason === "Timeout") return unknown(message)
  return { _tag: "Over", error: new CheckpointError({ reason, checkpoint, message }) }
}

/** What a watch consists of. */
export interface Parts<A, X, E, R, R2> {
  readonly sql: SqlClient.SqlClient
  readonly records: SqlRecords
  readonly handler: Handler<A, X, E, R>
  readonly handlerRetry: Schedule.Schedule<unknown, E, R2> | undefined
}

/** Handles and commits one batch. It fails as the handler did, and then nothing is changed. */
const runBatch = <A, X, E, R>(
  { handler, records, sql }: Pick<Parts<A, X, E, R, never>, "handler" | "records" | "sql">,
  owned: Owned,
  checkpoint: string,
  { changes, commit, ids, observedAt, redelivered }: Watcher.Batch<A, CheckpointError>
): Effect.Effect<Verdict, E, R> =>
  Effect.suspend(() => {
    let handlerFailure: Cause.Cause<E> | undefined
    const handled = guarded(sql, (check) =>
      Effect.gen(function* () {
        for (let index = 0; index < changes.length; index++) {
          yield* handler(changes[index]!, { id: ids[index]!, observedAt, redelivered })
          yield* check
        }
      })
    )
    const noted = Effect.tapErrorCause(handled, (cause) =>
      Effect.sync(() => {
        const isOfGuard = Option.exists(Cause.failureOption(cause), (error) => error instanceof RolledBack)
        if (!isOfGuard) handlerFailure = cause as Cause.Cause<E>
      })
    )
    // with the row in hand nobody can claim the checkpoint while the handlers run
    const held = records.hold(checkpoint, owned.fence ?? 0)
    const body = held.pipe(Effect.zipRight(noted), Effect.zipRight(owned.inBatch(commit)))
    return Effect.matchCauseEffect(inTransaction(sql, body), {
      onSuccess: () => Effect.succeed<Verdict>({ _tag: "Committed" }),
      onFailure: (cause) => {
        if (handlerFailure !== undefined) return Effect.failCause(handlerFailure)
        const error = Cause.failureOption(cause)
        return Option.isNone(error)
          ? Effect.failCause(cause as Cause.Cause<never>)
          : Effect.succeed(
              judge(owned.broken ?? (error.value as CheckpointError | Failure | RolledBack | SqlError), checkpoint)
            )
      }
    })
  })

/** One life of a watcher: until the watch ends, or until it is unknown what became of a batch. */
const live = <A, E, R, X, E2, R2, R3>(
  source: Watchable<A, E, R>,
  options: Watcher.Options<E, unknown> & { readonly checkpoint: string },
  parts: Parts<A, X, E2, R2, R3>,
  owned: Owned,
  onCommit: () => void
): Effect.Effect<Option.Option<Unknown>, E | E2 | SqlError | CheckpointError, R | R2 | R3> => {
  const store = fromRecords(guarantees, owned.records)
  const { checkpoint } = options
  const handle = (batch: Watcher.Batch<A, CheckpointError>) => {
    const attempt = runBatch(parts, owned, checkpoint, batch)
    const tried: Effect.Effect<Verdict, E2, R2 | R3> =
      parts.handlerRetry === undefined ? attempt : Effect.retry(attempt, parts.handlerRetry)
    return Effect.flatMap(tried, (verdict) => {
      if (verdict._tag === "Over") return Effect.fail(verdict.error)
      if (verdict._tag === "Committed") onCommit()
      return Effect.succeed(verdict)
    })
  }
  const watch = (scope: Scope.Scope) =>
    Effect.gen(function* () {
      const watcher = yield* Scope.extend(Watcher.make(source, { ...options, maxInFlight: 1 }), scope)
      const batches = watcher.batches as Stream.Stream<Watcher.Batch<A, CheckpointError>, E | CheckpointError>
      return yield* Stream.runHead(Stream.filter(Stream.mapEffect(batches, handle), isUnknown))
    })
  const life = Effect.acquireUseRelease(Scope.make(), watch, Scope.close)
  return Effect.catchAll(
    Effect.provideService(life, Checkpoints, store) as Effect.Effect<
      Option.Option<Unknown>,
      E | E2 | SqlError | CheckpointError,
      R | R2 | R3
    >,
    (error) =>
      error instanceof CheckpointError && error.isRetryable && owned.isAway
        ? Effect.succeed(Option.some(unknown(error.message)))
        : Effect.fail(error)
  )
}

const isUnknown = (verdict: Verdict): verdict is Unknown => verdict._tag === "Unknown"

/** Watches until the watch ends by itself, or fails for good. */
export const run = <A, E, R, X, E2, R2, R3>(
  source: Watchable<A, E, R>,
  options: Watcher.Options<E, unknown> & { readonly checkpoint: string },
  parts: Parts<A, X, E2, R2, R3>
): Effect.Effect<void, E | E2 | SqlError | CheckpointError, R | R2 | R3> =>
  Effect.gen(function* () {
    const owned = new Owned(parts.records)
    const { checkpoint } = options
    let failures = 0
    for (;;) {
      owned.fence = undefined
      const end = yield* live(source, options, parts, owned, () => {
        failures = 0
      })
      if (Option.isNone(end)) return
      const millis = wait(++failures)
      yield* Effect.annotateLogs(
        Effect.logWarning(
          `checkpoint "${checkpoint}": a batch may not be committed, the watch starts again from the database in ${millis} ms: ${end.value.problem}`
        ),
        { "periscope.checkpoint": checkpoint, attempt: failures, waitMillis: millis }
      )
      yield* Effect.sleep(millis)
    }
  })
