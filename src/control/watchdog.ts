/**
 * Says when work takes very long, again and again, and leaves it alone.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Waiters } from "./waiters.js"

interface Watched {
  readonly startedAt: number
  reports: number
}

export class Watchdog<W> {
  /** In the order of their start: so is when they are due for the first time. */
  private readonly running = new Map<W, Watched>()
  private readonly idle = new Waiters()

  constructor(
    private readonly every: number,
    private readonly report: (work: W, startedAt: number, runningMillis: number) => Effect.Effect<void>
  ) {}

  started(work: W, now: number): void {
    this.running.set(work, { startedAt: now, reports: 0 })
    // who sleeps until the first one is due need not be told of a later one
    this.idle.wakeAll()
  }

  ended(work: W): void {
    this.running.delete(work)
  }

  private dueAt({ reports, startedAt }: Watched): number {
    return startedAt + (reports + 1) * this.every
  }

  readonly run: Effect.Effect<never> = Effect.forever(
    Effect.suspend(() => {
      if (this.running.size === 0) return this.idle.wait(() => this.running.size === 0)
      const due = Math.min(...[...this.running.values()].map((watched) => this.dueAt(watched)))
      return Effect.flatMap(Clock.currentTimeMillis, (now) =>
        due > now ? Effect.sleep(due - now) : this.reportDue(now)
      )
    })
  )

  private reportDue(now: number): Effect.Effect<void> {
    const due = [...this.running].filter(([_, watched]) => this.dueAt(watched) <= now)
    return Effect.forEach(
      due,
      ([work, watched]) => {
        watched.reports++
        return this.report(work, watched.startedAt, now - watched.startedAt)
      },
      { discard: true }
    )
  }
}
