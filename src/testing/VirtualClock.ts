/**
 * A clock that jumps: whenever nothing is left to run, it is the time of the earliest sleeper.
 *
 * Deterministic, and without a single real wait: the same program with the same seed takes the same steps. A month of a
 * watcher that polls every 30 seconds passes in seconds.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scheduler from "effect/Scheduler"
import { PriorityBuckets } from "effect/Scheduler"
import { Sleepers } from "./sleepers.js"

/**
 * A clock and the scheduler that tells it when nothing is left to run. They work only together.
 *
 * @category models
 * @since 0.1.0
 */
export interface VirtualClock {
  readonly clock: Clock.Clock
  readonly scheduler: Scheduler.Scheduler
}

const maxRounds = 1000

/** Runs the tasks of fibers in order; once there are none, time jumps. */
class Turns implements Scheduler.Scheduler {
  private readonly tasks = new PriorityBuckets()
  private isRequested = false

  constructor(private readonly sleepers: Sleepers) {}

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    return fiber.currentOpCount > 2048 ? 0 : false
  }

  scheduleTask(task: Scheduler.Task, priority: number): void {
    this.tasks.scheduleTask(task, priority)
    this.request()
  }

  /** A turn of the event loop: what promises resolve in between has been scheduled when the next one begins. */
  request(): void {
    if (this.isRequested) return
    this.isRequested = true
    setImmediate(this.turn)
  }

  private readonly turn = (): void => {
    if (this.tasks.buckets.length === 0) this.sleepers.wakeNext()
    for (let round = 0; this.tasks.buckets.length > 0 && round < maxRounds; round++) {
      const { buckets } = this.tasks
      this.tasks.buckets = []
      for (const [_, tasks] of buckets) for (const task of tasks) task()
    }
    this.isRequested = false
    if (this.tasks.buckets.length > 0 || !this.sleepers.isEmpty) this.request()
  }
}

const never = Duration.toMillis(Duration.infinity)

/** A clock over a heap of sleepers; `onSleep` is told of every new one. */
const clockOf = (sleepers: Sleepers, onSleep: () => void): Clock.Clock => ({
  [Clock.ClockTypeId]: Clock.ClockTypeId,
  unsafeCurrentTimeMillis: () => sleepers.now,
  unsafeCurrentTimeNanos: () => BigInt(Math.round(sleepers.now * 1_000_000)),
  currentTimeMillis: Effect.sync(() => sleepers.now),
  currentTimeNanos: Effect.sync(() => BigInt(Math.round(sleepers.now * 1_000_000))),
  sleep: (duration) =>
    Effect.async<void>((resume) => {
      const millis = Duration.toMillis(duration)
      if (millis === never) return
      const sleeper = sleepers.add(millis, () => resume(Effect.void))
      onSleep()
      return Effect.sync(() => sleepers.cancel(sleeper))
    })
})

/**
 * Makes a clock that starts at `start`, in epoch milliseconds [0].
 *
 * **Example**
 * ```ts
 * import { Clock, Effect } from "effect"
 * import { VirtualClock } from "effect-periscope/testing"
 *
 * const { clock, scheduler } = VirtualClock.make(Date.UTC(2025, 0, 1))
 *
 * const program = Effect.zipRight(Effect.sleep("31 days"), Clock.currentTimeMillis).pipe(
 *   Effect.withScheduler(scheduler),
 *   Effect.withClock(clock)
 * )
 *
 * await Effect.runPromise(program) // => Date.UTC(2025, 1, 1)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (start = 0): VirtualClock => {
  const sleepers = new Sleepers(start)
  const scheduler = new Turns(sleepers)
  return { clock: clockOf(sleepers, () => scheduler.request()), scheduler }
}

/**
 * Runs an effect on a clock of its own: sleeps, schedules, timeouts and fibers in it take no real time.
 *
 * **When to use** For programs whose outside is in memory, over a long virtual time or very often. To stop time at an exact
 * instant and look around, use `TestClock`.
 *
 * **Details** `Clock.currentTimeMillis` begins at `start` [0]. Of several sleepers of one instant the one that lay down first
 * wakes first. Random numbers are the caller's: `Effect.withRandom(Random.make(seed))`.
 *
 * **Gotchas** In-memory ports only: a fiber that waits for a socket, a file or a real timer looks idle, and time jumps on
 * without it. A promise that is settled by other promises is waited for.
 *
 * **Example**
 * ```ts
 * import { Clock, Effect, Schedule } from "effect"
 * import { VirtualClock } from "effect-periscope/testing"
 *
 * const month = Effect.gen(function* () {
 *   const polls = yield* Effect.repeat(Effect.void, Schedule.spaced("1 hour").pipe(Schedule.upTo("30 days")))
 *   return { polls, millis: yield* Clock.currentTimeMillis }
 * }).pipe(VirtualClock.run)
 *
 * await Effect.runPromise(month) // => { polls: 720, millis: 2_592_000_000 }
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const run = <A, E, R>(effect: Effect.Effect<A, E, R>, start = 0): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const { clock, scheduler } = make(start)
    // a yield, so that not even the first step runs on another scheduler
    return Effect.zipRight(Effect.yieldNow(), effect).pipe(Effect.withScheduler(scheduler), Effect.withClock(clock))
  })

/**
 * Gives everything that is built on top of it a virtual clock that starts at 0. See {@link run}.
 *
 * **Example**
 * ```ts
 * import { Clock, Effect } from "effect"
 * import { VirtualClock } from "effect-periscope/testing"
 *
 * const program = Effect.zipRight(Effect.sleep("1 hour"), Clock.currentTimeMillis)
 *
 * await Effect.runPromise(Effect.provide(program, VirtualClock.layer)) // => 3_600_000
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.unwrapEffect(
  Effect.sync(() => {
    const { clock, scheduler } = make()
    return Layer.merge(Layer.setClock(clock), Layer.setScheduler(scheduler))
  })
)
