/**
 * Runs an effect in a fiber of its own for a bounded time.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as alarms from "./alarms.js"

/** How it ended: with an exit, or left behind because it took too long or was cancelled from outside. */
export type Outcome<A, E> = Exit.Exit<A, E> | "timeout" | "cancelled"

/**
 * Waits at most `millis` for an effect, also for one that cannot be interrupted: then it is interrupted in the background. An
 * interruption of the caller interrupts it and waits for its finalizers, within the same bound. `onStart` gets a function
 * that cancels it.
 */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  millis: number,
  onStart: (cancel: () => void) => void = () => {}
): Effect.Effect<Outcome<A, E>, never, R> =>
  Effect.clockWith((clock) =>
    Effect.uninterruptibleMask((restore) =>
      // its failure is our outcome: a fiber that fails is logged as if nobody had handled that
      Effect.flatMap(Effect.forkDaemon(Effect.interruptible(Effect.exit(effect))), (worker) => {
        let outcome: Outcome<A, E> | undefined
        let resume: ((outcome: Effect.Effect<Outcome<A, E>>) => void) | undefined
        const end = (how: Outcome<A, E>): void => {
          if (outcome !== undefined) return
          outcome = how
          alarms.cancel(clock, alarm)
          if (typeof how === "string") worker.unsafeInterruptAsFork(FiberId.none)
          resume?.(Effect.succeed(how))
        }
        const alarm = alarms.set(clock, millis, () => end("timeout"))
        worker.addObserver((exit) => end(Exit.flatten(exit)))
        onStart(() => end("cancelled"))
        const ended = Effect.async<Outcome<A, E>>((onEnd) => {
          if (outcome === undefined) resume = onEnd
          else onEnd(Effect.succeed(outcome))
        })
        const interruptWorker = Effect.suspend(() => {
          worker.unsafeInterruptAsFork(FiberId.none)
          return ended
        })
        return Effect.onInterrupt(restore(ended), () => interruptWorker)
      })
    )
  )
