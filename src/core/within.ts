/**
 * Runs an effect in a fiber of its own for a bounded time.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"

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
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const worker: Fiber.RuntimeFiber<A, E> = yield* Effect.forkDaemon(Effect.interruptible(effect))
      const timer: Fiber.RuntimeFiber<void> = yield* Effect.forkDaemon(Effect.interruptible(Effect.sleep(millis)))
      const ended = Effect.async<Outcome<A, E>>((resume) => {
        const onWorker = (exit: Exit.Exit<A, E>): void => resume(Effect.succeed(exit))
        const onTimer = (): void => resume(Effect.succeed("timeout"))
        worker.addObserver(onWorker)
        timer.addObserver(onTimer)
        onStart(() => resume(Effect.succeed("cancelled")))
      })
      const interruptWorker = Effect.suspend(() => {
        worker.unsafeInterruptAsFork(FiberId.none)
        return ended
      })
      const outcome = yield* Effect.onInterrupt(restore(ended), () => interruptWorker)
      timer.unsafeInterruptAsFork(FiberId.none)
      if (typeof outcome === "string") worker.unsafeInterruptAsFork(FiberId.none)
      return outcome
    })
  )
