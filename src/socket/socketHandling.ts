/**
 * Runs a handler for each item: retries it, keeps the order of what belongs together, and acks after it.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as Backoff from "../core/Backoff.js"
import { describe } from "../core/WatchStatus.js"
import type { Reconnecting } from "./reconnecting.js"
import type { Engine } from "./socketEngine.js"
import * as socketError from "./socketError.js"
import type { SocketError } from "./socketError.js"
import type { Entry } from "./window.js"

/**
 * How a handler is run.
 *
 * - `concurrency`: how many items are handled at once; those of one `orderBy` stay in order [1]. Never more than `maxInFlight`; one
 *   of the two must be 100,000 or less.
 * - `handlerRetry`: when a failing handler is tried again [never].
 * - `onFailure`: what happens to an item whose handler failed for good. `"stop"` ends with its error; `"release"` leaves it without
 *   an ack and goes on, so that it is handed out again when the server sends it again [`"stop"`].
 */
export interface HandlerOptions<in E = never, out R = never> {
  readonly concurrency?: number | undefined
  readonly handlerRetry?: Schedule.Schedule<unknown, E, R> | undefined
  readonly onFailure?: "stop" | "release" | undefined
}

/** Tries again for ever whatever happens, a defect too. */
export const forever = "forever"

type Retry<E, R> = Schedule.Schedule<unknown, E, R> | typeof forever | undefined

export interface Handling<in E, out R> extends Omit<HandlerOptions<E, R>, "handlerRetry"> {
  readonly handlerRetry?: Retry<E, R>
}

const patience = Backoff.make<unknown>({ first: "1 second", max: "1 minute" })

type Handler<A, X, E, R> = (item: A) => Effect.Effect<X, E, R>

/** Runs a handler with retries, counting its failures in the status. */
const attempts = <A, X, E, R, R2>(
  engine: Engine<A>,
  handling: Effect.Effect<X, E, R>,
  retry: Retry<E, R2>
): Effect.Effect<void, E, R | R2> => {
  let failures = 0
  const counted = Effect.catchAllCause(handling, (original) => {
    // not reached when the consumer itself is interrupted
    const cause = socketError.fromWithin(original)
    engine.handlerFailed(++failures)
    return Effect.zipRight(
      engine.warn(`the handler failed: ${describe(cause)}`, { attempt: failures }),
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

/** Fails as it has failed already, and is run from then on. */
const failingFirst = <X, E, R>(cause: Cause.Cause<E>, handling: Effect.Effect<X, E, R>): Effect.Effect<X, E, R> => {
  let isFirst = true
  return Effect.suspend(() => {
    if (!isFirst) return handling
    isFirst = false
    return Effect.failCause(cause)
  })
}

/** Takes items and handles them, until there will be none. */
const work = <A, X, E, R, R2>(
  engine: Engine<A>,
  handler: Handler<A, X, E, R>,
  { handlerRetry, onFailure }: Handling<E, R2>
): Effect.Effect<void, E, R | R2> =>
  Effect.gen(function* () {
    const handle = (entry: Entry<A>): Effect.Effect<void, E, R | R2> => {
      const handling = Effect.suspend(() => handler(entry.item))
      // the way of nearly all items: everything about failures is made where there is one
      return Effect.matchCauseEffect(handling, {
        onSuccess: () => {
          engine.finish(entry)
          return Effect.void
        },
        onFailure: (cause) => {
          const run = attempts(engine, failingFirst(cause, handling), handlerRetry)
          const finished = Effect.map(run, () => engine.finish(entry))
          return onFailure === "release"
            ? Effect.catchAllCause(finished, () => Effect.sync(() => engine.forget(entry)))
            : finished
        }
      })
    }
    while (true) {
      const entry = engine.take()
      if (entry === undefined) {
        if (engine.isOver) return
        yield* engine.waiting
        continue
      }
      yield* handle(entry)
    }
  })

/** Each is a fiber that waits for items. */
const maxWorkers = 100_000

export const forEach = <A, X, E, R, R2>(
  engine: Engine<A>,
  reconnecting: Reconnecting,
  handler: Handler<A, X, E, R>,
  options: Handling<E, R2>
): Effect.Effect<void, SocketError | E, R | R2> => {
  const { concurrency = 1, onFailure } = options
  if (!(concurrency >= 1)) {
    return Effect.dieMessage(`ReconnectingSocket.runForEach: \`concurrency\` is ${concurrency}; it must be 1 or more.`)
  }
  if (onFailure !== undefined && onFailure !== "stop" && onFailure !== "release") {
    return Effect.dieMessage(
      `ReconnectingSocket.runForEach: \`onFailure\` is ${JSON.stringify(onFailure)}; it must be "stop" or "release".`
    )
  }
  const workers = Math.min(Math.floor(concurrency), engine.settings.maxInFlight)
  if (workers > maxWorkers) {
    return Effect.dieMessage(
      `ReconnectingSocket.runForEach: \`concurrency\` is ${concurrency} and \`maxInFlight\` is ${engine.settings.maxInFlight}; one of them must be ${maxWorkers} or less.`
    )
  }
  const worker = work(engine, handler, options)
  return Effect.gen(function* () {
    yield* engine.consume(reconnecting, workers > 1 ? "kept" : "none")
    if (workers === 1) yield* worker
    else {
      yield* Effect.forEach(Array.from({ length: workers }), () => worker, { concurrency: "unbounded", discard: true })
    }
    if (engine.failure !== undefined) yield* Effect.failCause(engine.failure)
  }).pipe(Effect.scoped)
}
