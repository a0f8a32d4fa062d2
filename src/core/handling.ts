/**
 * Runs handlers over batches: retries them, keeps the order within a key, and stops or parks what fails for good.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import * as Backoff from "./Backoff.js"
import type * as Change from "./Change.js"
import type { CheckpointError } from "./Checkpoints.js"
import type { Handed } from "./delivery.js"
import { describe } from "./describe.js"
import type { Engine } from "./engine.js"
import type { Parked } from "./ledger.js"

/**
 * What a handler may want to know beside the change: `id` is stable over redelivery, `observedAt` is in epoch milliseconds,
 * `redelivered` says that it was handed out before without a commit.
 */
export interface Delivery {
  readonly id: string
  readonly observedAt: number
  readonly redelivered: boolean
}

/**
 * How a handler is run.
 *
 * - `concurrency`: how many changes of one batch are handled at once; those of one `orderBy` stay in order [1].
 * - `orderBy`: what must stay in order [the key, of an entry of a log its entity].
 * - `handlerRetry`: when a failing handler is tried again [never].
 * - `onFailure`: what happens to a change whose handler failed for good: `"stop"` ends the watch with its error, `"park"` puts
 *   the change aside and goes on [`"stop"`].
 */
export interface HandlerOptions<in A, in E = never, out R = never> {
  readonly concurrency?: number | undefined
  readonly orderBy?: ((change: Change.Change<A>) => string) | undefined
  readonly handlerRetry?: Schedule.Schedule<unknown, E, R> | undefined
  readonly onFailure?: "stop" | "park" | undefined
}

interface Handling<in A, in E, out R> extends Omit<HandlerOptions<A, E, R>, "handlerRetry"> {
  readonly handlerRetry?: Retry<E, R>
}

type Handler<A, X, E, R> = (change: Change.Change<A>, delivery: Delivery) => Effect.Effect<X, E, R>

const patience = Backoff.make<unknown>({ first: "1 second", max: "1 minute" })

/** Tries again for ever whatever happens, a defect too. */
export const forever = "forever"

type Retry<E, R> = Schedule.Schedule<unknown, E, R> | typeof forever | undefined

/** A handler ended by an interruption that was not the watch's own: it joined a fiber that was, for example. */
export class HandlerInterrupted {
  readonly _tag = "HandlerInterrupted"
  readonly message = "it was interrupted from within"
}

/** Runs something with retries, counting its failures in the status; `failed` is why its first run failed, if it has run. */
const attempts = <A, WE, X, E, R, R2>(
  engine: Engine<A, WE>,
  doing: Effect.Effect<X, E, R>,
  retry: Retry<E, R2>,
  failed?: Cause.Cause<E>
): Effect.Effect<void, E, R | R2> => {
  let failures = 0
  const effect =
    failed === undefined ? doing : Effect.suspend(() => (failures === 0 ? Effect.failCause(failed) : doing))
  const counted = Effect.catchAllCause(effect, (original) => {
    // not reached when the watch itself is interrupted
    const cause = Cause.isInterruptedOnly(original) ? Cause.die(new HandlerInterrupted()) : original
    engine.handlerFailed(++failures)
    return Effect.zipRight(
      Effect.annotateLogs(Effect.logWarning(`${engine.name}: the handler failed: ${describe(cause)}`), {
        "periscope.source": engine.name,
        attempt: failures
      }),
      Effect.failCause(cause)
    )
  })
  const retried: Effect.Effect<X, E, R | R2> =
    retry === undefined
      ? counted
      : retry === forever
        ? Effect.unsandbox(Effect.retry(Effect.sandbox(counted), patience))
        : Effect.retry(counted, retry)
  return Effect.map(retried, () => engine.handlerFailed(0))
}

/** Handles the changes of one key in order. Adds those that failed for good to `parked`, the newest of each key. */
const inOrder = <A, WE, X, E, R, R2>(
  engine: Engine<A, WE>,
  handed: Handed<A>,
  indices: ReadonlyArray<number>,
  handler: Handler<A, X, E, R>,
  options: Handling<A, E, R2>,
  parked: Map<string, Parked<unknown>>
): Effect.Effect<void, E, R | R2> => {
  const { observedAt, redelivered } = handed
  const handling = (index: number): Effect.Effect<X, E, R> =>
    Effect.suspend(() => handler(handed.changes[index]!, { id: handed.ids[index]!, observedAt, redelivered }))
  /** The one whose handler has failed once. */
  const troubled = (index: number, failed: Cause.Cause<E>): Effect.Effect<void, E, R | R2> =>
    Effect.gen(function* () {
      const change = handed.stored[index]!
      const run = attempts(engine, handling(index), options.handlerRetry, failed)
      if (options.onFailure !== "park") return yield* run
      const exit = yield* Effect.exit(run)
      parked.delete(change.key)
      if (Exit.isSuccess(exit)) return
      const others = engine.delivery.ledger.parked.filter((entry) => entry.change.key !== change.key)
      const count = others.length + parked.size + engine.delivery.aside
      if (count >= engine.settings.maxParked && handed.parked === undefined) {
        return yield* Effect.failCause(exit.cause)
      }
      const parkedAt = yield* Clock.currentTimeMillis
      parked.set(change.key, { id: handed.ids[index]!, change, error: describe(exit.cause), observedAt, parkedAt })
    })
  // one guard for all of them, not one for each: most handlers succeed
  let place = 0
  const rest: Effect.Effect<void, E, R | R2> = Effect.catchAllCause(
    Effect.gen(function* () {
      for (; place < indices.length; place++) {
        yield* handling(indices[place]!)
        if (parked.size > 0) parked.delete(handed.stored[indices[place]!]!.key)
      }
    }),
    (cause) => Effect.zipRight(troubled(indices[place++]!, cause), rest)
  )
  return rest
}

const groupIndices = (orders: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<number>> => {
  const groups = new Map<string, Array<number>>()
  orders.forEach((order, index) => {
    const group = groups.get(order)
    if (group === undefined) groups.set(order, [index])
    else group.push(index)
  })
  return [...groups.values()]
}

const handleBatch = <A, WE, X, E, R, R2>(
  engine: Engine<A, WE>,
  handed: Handed<A>,
  handler: Handler<A, X, E, R>,
  options: Handling<A, E, R2>
): Effect.Effect<ReadonlyArray<Parked<unknown>>, E, R | R2> => {
  const { concurrency = 1, orderBy } = options
  const all = handed.changes.map((_, index) => index)
  const parked = new Map<string, Parked<unknown>>()
  const handled =
    concurrency === 1 || all.length === 1
      ? inOrder(engine, handed, all, handler, options, parked)
      : Effect.forEach(
          groupIndices(orderBy === undefined ? handed.stored.map(engine.orderOf) : handed.changes.map(orderBy)),
          (indices) => inOrder(engine, handed, indices, handler, options, parked),
          { concurrency, discard: true }
        )
  return Effect.map(handled, () => [...parked.values()])
}

/** Pulls batches and does something with each, until there are none. */
const loop = <A, WE, E, R>(
  engine: Engine<A, WE>,
  body: (handed: Handed<A>) => Effect.Effect<unknown, E | CheckpointError, R>
): Effect.Effect<void, WE | E | CheckpointError, R> =>
  Effect.acquireUseRelease(
    engine.begin(),
    () =>
      Effect.gen(function* () {
        engine.show()
        // no variable holds a batch while the next one is read: that would carry it into the old generation of the heap
        const step = Effect.flatMap(engine.pull(), (handed) =>
          handed === undefined ? Effect.succeed(false) : Effect.as(body(handed), true)
        )
        while (yield* step) {}
      }),
    () => engine.leave(true)
  )

export const forEach = <A, WE, X, E, R, R2>(
  engine: Engine<A, WE>,
  handler: Handler<A, X, E, R>,
  options: Handling<A, E, R2>
): Effect.Effect<void, WE | E | CheckpointError, R | R2> => {
  const { concurrency = 1 } = options
  if (!(concurrency >= 1)) {
    return Effect.dieMessage(`Watcher.runForEach: \`concurrency\` is ${concurrency}; it must be 1 or more.`)
  }
  return loop(engine, (handed) =>
    Effect.flatMap(handleBatch(engine, handed, handler, options), (parked) => {
      const { delivery } = engine
      if (handed.parked === undefined) return delivery.commit(handed.n, parked)
      return parked.length === 0 ? delivery.unpark(handed.parked) : Effect.void
    })
  )
}

export const forEachBatch = <A, WE, X, E, R, R2>(
  engine: Engine<A, WE>,
  handler: (handed: Handed<A>) => Effect.Effect<X, E, R>,
  retry: Schedule.Schedule<unknown, E, R2> | undefined
): Effect.Effect<void, WE | E | CheckpointError, R | R2> =>
  loop(engine, (handed) =>
    Effect.zipRight(
      attempts(
        engine,
        Effect.suspend(() => handler(handed)),
        retry
      ),
      handed.parked === undefined ? engine.delivery.commit(handed.n) : engine.delivery.unpark(handed.parked)
    )
  )
