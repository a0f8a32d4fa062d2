/**
 * Runs an effect in a fiber of its own for a bounded time.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as alarms from "./alarms.js"
import { clockOf } from "./clockOf.js"

/** How it ended: with an exit, or left behind because it took too long or was cancelled from outside. */
export type Outcome<A, E> = Exit.Exit<A, E> | "timeout" | "cancelled"

/** A poll that took too long, of a source without an error of its own for that. */
export class PollTimeout {
  readonly _tag = "PollTimeout"
  readonly message: string
  constructor(source: string, millis: number) {
    this.message = `${source}: no answer within ${Duration.format(Duration.millis(millis))}; raise \`timeout\` if that is normal.`
  }
}

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
  Effect.flatMap(Effect.runtime<R>(), ({ context, fiberRefs, runtimeFlags }) => {
    const interruptible = RuntimeFlags.enable(runtimeFlags, RuntimeFlags.Interruption)
    return runWithin(Runtime.make({ context, fiberRefs, runtimeFlags: interruptible }), effect, millis, onStart)
  })

/** The same in a runtime that is at hand, and interruptible: its fiber is made as the runtime says, cheaper than a fork. */
export const runWithin = <A, E, R>(
  runtime: Runtime.Runtime<R>,
  effect: Effect.Effect<A, E, R>,
  millis: number,
  onStart: (cancel: () => void) => void
): Effect.Effect<Outcome<A, E>> =>
  // from the start of the worker to the end of the wait no interruption is missed
  Effect.uninterruptibleMask((restore) => {
    const clock = clockOf(runtime.fiberRefs)
    let outcome: Outcome<A, E> | undefined
    let onEnd: ((end: Effect.Effect<void>) => void) | undefined
    const end = (how: Outcome<A, E>): void => {
      if (outcome !== undefined) return
      outcome = how
      alarms.cancel(clock, alarm)
      if (typeof how === "string") worker.unsafeInterruptAsFork(FiberId.none)
      onEnd?.(Effect.void)
    }
    const alarm = alarms.set(clock, millis, () => end("timeout"))
    // its failure is our outcome: a fiber that fails is logged as if nobody had handled that
    // and it must not keep what it found: see `taken`
    let found: Exit.Exit<A, E> | undefined
    const noting = Effect.map(Effect.exit(effect), (exit) => {
      found = exit
    })
    const worker = Runtime.runFork(runtime, noting)
    worker.addObserver((exit) => {
      end(Exit.isFailure(exit) ? Exit.failCause(exit.cause) : found!)
      found = undefined
    })
    onStart(() => end("cancelled"))
    const ended = Effect.async<void>((resume) => {
      if (outcome === undefined) onEnd = resume
      else resume(Effect.void)
    })
    const stopped = Effect.suspend(() => {
      worker.unsafeInterruptAsFork(FiberId.none)
      return ended
    })
    // an async effect that is over survives collections of young objects, and all that it knows with it: a whole poll
    const taken = (): Effect.Effect<Outcome<A, E>> => {
      const found = outcome!
      outcome = "cancelled"
      return Effect.succeed(found)
    }
    return Effect.matchCauseEffect(restore(ended), {
      onFailure: (cause) => Effect.zipRight(stopped, Effect.failCause(cause)),
      onSuccess: taken
    })
  })
