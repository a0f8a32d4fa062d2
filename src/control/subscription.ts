/**
 * Listens to a stream for ever: one that ends or fails is started again.
 */
import type * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import { describe } from "../core/WatchStatus.js"

const firstWait = 100
const longestWait = 30_000
/** A stream that lived that long has worked: its next end is the first one again. */
const healthy = 30_000

/** What the listener does with it. */
export interface Listener<in A> {
  readonly heard: (items: Chunk.Chunk<A>) => Effect.Effect<void>
  /** It is started again: nobody knows what happened meanwhile. */
  readonly restarted: Effect.Effect<void>
}

export const listen = <A, R>(
  name: string,
  index: number,
  stream: Stream.Stream<A, unknown, R>,
  listener: Listener<A>
): Effect.Effect<never, never, R> => {
  const round = (ends: number): Effect.Effect<number, never, R> =>
    Effect.gen(function* () {
      const started = yield* Clock.currentTimeMillis
      if (ends > 0) yield* listener.restarted
      const exit = yield* Effect.exit(Stream.runForEachChunk(stream, listener.heard))
      const lived = (yield* Clock.currentTimeMillis) - started
      const row = lived >= healthy ? 1 : ends + 1
      const wait = Math.min(firstWait * 2 ** (row - 1), longestWait)
      const why = Exit.isSuccess(exit) ? "ended" : `failed: ${describe(exit.cause)}`
      yield* Effect.annotateLogs(
        Effect.logWarning(
          `${name}: watch ${index} is started again in ${Duration.format(Duration.millis(wait))}, it ${why}`
        ),
        { "periscope.controller": name, watch: index, attempt: row }
      )
      yield* Effect.sleep(wait)
      return row
    })
  return Effect.iterate(0, { while: () => true, body: round }) as Effect.Effect<never, never, R>
}
