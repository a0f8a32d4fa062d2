/**
 * One life of a watcher: from its start to its crash.
 *
 * A crash stops the scheduler of the life between two steps: no fiber of it ever runs on, no finalizer either, as in a killed
 * process. Only when a trial is over and judged are the dead fibers let go, so that they do not stay in memory.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type * as Scheduler from "effect/Scheduler"

export class Incarnation implements Scheduler.Scheduler {
  isAlive = true
  /** The injected fault that lets this life end by itself. */
  mayEnd: string | undefined
  /** The operations of the store that were under way when it crashed. */
  readonly inFlight = new Set<() => void>()
  private isBuried = false
  private readonly held: Array<[Scheduler.Task, number]> = []
  private readonly stuck: Array<() => void> = []
  private fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined

  constructor(
    readonly number: number,
    private readonly base: Scheduler.Scheduler,
    private readonly onCrash: () => void
  ) {}

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    return this.base.shouldYield(fiber)
  }

  scheduleTask(task: Scheduler.Task, priority: number): void {
    this.base.scheduleTask(() => {
      if (this.isAlive || this.isBuried) task()
      else this.held.push([task, priority])
    }, priority)
  }

  /** Starts its life. */
  start(body: Effect.Effect<unknown, unknown>): Effect.Effect<Fiber.RuntimeFiber<unknown, unknown>> {
    // watchers of one clock share what wakes them: each life has a clock object of its own
    const alive = Effect.clockWith((clock) =>
      Effect.zipRight(Effect.yieldNow(), body).pipe(Effect.withScheduler(this), Effect.withClock({ ...clock }))
    )
    return Effect.map(Effect.forkDaemon(alive), (fiber) => (this.fiber = fiber))
  }

  crash(): void {
    this.isAlive = false
    for (const land of this.inFlight) land()
    this.inFlight.clear()
    this.onCrash()
  }

  /** What a dead fiber waits for. */
  readonly never: Effect.Effect<never> = Effect.async<never>((resume) => {
    this.stuck.push(() => resume(Effect.interrupt))
  })

  /** Lets the fibers of a dead life go, when nothing that they do counts any more. */
  bury(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isAlive = false
      this.isBuried = true
      const { fiber } = this
      if (fiber === undefined) return Effect.void
      for (const [task, priority] of this.held) this.base.scheduleTask(task, priority)
      fiber.unsafeInterruptAsFork(FiberId.none)
      for (const resume of this.stuck) resume()
      return Effect.async<void>((resume) => fiber.addObserver(() => resume(Effect.void)))
    })
  }
}
