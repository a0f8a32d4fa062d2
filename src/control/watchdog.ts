/**
 * Says when work takes very long, again and again, and leaves it alone.
 *
 * It lives by a clock that is never set back, nor forward.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Timer } from "./timer.js"
import { Waiters } from "./waiters.js"

interface Watched {
  readonly startedAt: number
  dueAt: number
}

export class Watchdog<W> {
  private readonly running = new Map<W, Watched>()
  private readonly idle = new Waiters()

  constructor(
    private readonly clock: Clock.Clock,
    private readonly every: number,
    private readonly report: (work: W, runningMillis: number) => Effect.Effect<void>
  ) {}

  private get now(): number {
    return Number(this.clock.unsafeCurrentTimeNanos()) / 1_000_000
  }

  started(work: W): void {
    const startedAt = this.now
    this.running.set(work, { startedAt, dueAt: startedAt + this.every })
    // who sleeps until the first one is due need not be told of a later one
    this.idle.wakeAll()
  }

  /** Gives how many milliseconds it took. */
  ended(work: W): number {
    const watched = this.running.get(work)
    this.running.delete(work)
    return watched === undefined ? 0 : this.now - watched.startedAt
  }

  readonly run: Effect.Effect<never> = Effect.forever(
    Effect.suspend(() => {
      if (this.running.size === 0) return this.idle.wait(() => this.running.size === 0)
      const { now } = this
      let due = Infinity
      for (const { dueAt } of this.running.values()) due = Math.min(due, dueAt)
      return due > now + Timer.resolution ? Effect.sleep(due - now) : this.reportDue(now)
    })
  )

  private reportDue(now: number): Effect.Effect<void> {
    const due = [...this.running].filter(([_, { dueAt }]) => dueAt <= now + Timer.resolution)
    return Effect.forEach(
      due,
      ([work, watched]) => {
        const millis = now - watched.startedAt
        // a host that was asleep for hours tells of that once
        watched.dueAt = watched.startedAt + (Math.floor((millis + Timer.resolution) / this.every) + 1) * this.every
        return this.report(work, Math.round(millis))
      },
      { discard: true }
    )
  }
}
