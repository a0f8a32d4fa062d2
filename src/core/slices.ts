/**
 * Long work in slices: between two of them timers and sockets get their turn, so that nothing else on the thread stands still.
 */
import * as Effect from "effect/Effect"

// of about 500 entries each: some milliseconds
const steps = 16

/** Runs a generator to its end, some steps at a time. */
export const run = <A>(work: Generator<void, A>): Effect.Effect<A> =>
  Effect.suspend(() => {
    for (let step = 0; step < steps; step++) {
      const { done, value } = work.next()
      if (done === true) return Effect.succeed(value)
    }
    // a yield of the fiber alone would be no turn of the event loop
    return Effect.zipRight(Effect.sleep(0), run(work))
  })
