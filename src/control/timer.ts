/**
 * One wake-up call for many deadlines: a single sleeping fiber, which sleeps until the earliest one.
 *
 * It may ring too early, never too late: who is rung looks at the time, and sets it again.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"

// the longest time that a timer of the host can hold
const longestSleep = 2 ** 31 - 1

export class Timer {
  /** Below that of timers, above that of the nanoseconds since 1970 in a floating point number: what is due by then is due. */
  static readonly resolution = 0.5
  private sleeper: Fiber.RuntimeFiber<void> | undefined
  private target = Infinity

  private readonly runtime: Runtime.Runtime<never>

  constructor(
    runtime: Runtime.Runtime<never>,
    private readonly clock: Clock.Clock,
    private readonly ring: () => void
  ) {
    // made where nothing is to be interrupted, its sleep still is
    const runtimeFlags = RuntimeFlags.enable(runtime.runtimeFlags, RuntimeFlags.Interruption)
    this.runtime = Runtime.make({ context: runtime.context, fiberRefs: runtime.fiberRefs, runtimeFlags })
  }

  /** Milliseconds that only go forward: the time of day may be set back, and nobody is to wait for it to come again. */
  get now(): number {
    return Number(this.clock.unsafeCurrentTimeNanos()) / 1_000_000
  }

  /** Rings by then at the latest. */
  set(at: number): void {
    if (at >= this.target) return
    this.clear()
    this.target = at
    const wait = Math.min(Math.max(0, at - this.now), longestSleep)
    const sleeper = Runtime.runFork(this.runtime, this.clock.sleep(Duration.millis(wait)))
    this.sleeper = sleeper
    sleeper.addObserver(() => {
      if (this.sleeper !== sleeper) return
      this.sleeper = undefined
      this.target = Infinity
      this.ring()
    })
  }

  clear(): void {
    const { sleeper } = this
    this.sleeper = undefined
    this.target = Infinity
    sleeper?.unsafeInterruptAsFork(FiberId.none)
  }
}
